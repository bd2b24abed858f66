//! Weights of a checkpoint, by what they are for, and their way onto a device.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use half::{bf16, f16};
use lmrun_kernels::{BLOCK_LEN, BlockFormat, Device, Grain, MatrixData, MatrixPart, quantise_q8_0};

use crate::quantise::is_plain;
use crate::{DecoderOptions, ModelError, Precision};

/// What a tensor is for. Each container has its own name for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Embedding,
    FinalNorm,
    Head,
    Layer(usize, LayerWeight),
}

/// A tensor of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerWeight {
    AttentionNorm,
    Query,
    Key,
    Value,
    /// Queries, keys and values in one tensor.
    QueryKeyValue,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    Output,
    OutputBias,
    /// The norm of what attention adds.
    PostAttentionNorm,
    FfNorm,
    Gate,
    Up,
    /// Gate and up in one tensor.
    GateUp,
    Down,
    /// The norm of what the feed-forward layer adds.
    PostFfNorm,
}

/// A tensor as it lies in a file.
pub(crate) struct RawTensor<'a> {
    /// Rows first.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: GgmlDType,
    /// Whole blocks of `dtype`, as many as the shape says.
    pub(crate) bytes: Cow<'a, [u8]>,
}

impl RawTensor<'_> {
    /// Some rows of a matrix.
    pub(crate) fn rows(&self, rows: Range<usize>) -> RawTensor<'_> {
        let n_bytes = self.bytes.len() / self.shape[0];
        RawTensor {
            shape: vec![rows.len(), self.shape[1]],
            dtype: self.dtype,
            bytes: Cow::Borrowed(&self.bytes[rows.start * n_bytes..rows.end * n_bytes]),
        }
    }
}

/// Where tensors come from.
pub(crate) trait Source {
    /// The container's name for a weight.
    fn name(&self, weight: Weight) -> String;

    /// The names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// The tensor, if there is one.
    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError>;

    /// An error about a tensor.
    fn invalid(&self, reason: String) -> ModelError;

    /// What the container holds and this crate does not do.
    fn unsupported(&self, what: String) -> ModelError;

    /// The tensor for `weight`, whose shape must be `shape`.
    fn expect(&self, weight: Weight, shape: &[usize]) -> Result<RawTensor<'_>, ModelError> {
        let name = self.name(weight);
        let tensor = self
            .tensor(&name)?
            .ok_or_else(|| self.invalid(format!("tensor {name} is missing")))?;
        if tensor.shape == shape {
            Ok(tensor)
        } else {
            Err(self.invalid(format!(
                "tensor {name} has shape {:?}, its configuration asks for {shape:?}",
                tensor.shape
            )))
        }
    }
}

/// The plain values of a tensor.
pub(crate) fn plain(tensor: &RawTensor<'_>) -> Result<Vec<f32>, candle_core::Error> {
    let bytes = &tensor.bytes;
    Ok(match tensor.dtype {
        GgmlDType::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        GgmlDType::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| f16::from_le_bytes(*b).to_f32())
            .collect(),
        GgmlDType::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| bf16::from_le_bytes(*b).to_f32())
            .collect(),
        dtype => {
            // candle-core reads blocks in place, which wants an aligned copy.
            let copy = Cow::Owned(bytes.to_vec());
            let cpu = candle_core::Device::Cpu;
            let storage = QStorage::from_data(copy, &cpu, dtype)?;
            QTensor::new(storage, tensor.shape.clone())?
                .dequantize(&cpu)?
                .flatten_all()?
                .to_vec1()?
        }
    })
}

/// Bytes that the tensors of a source take on a GPU: blocks as they are, plain values in 16 bits.
pub(crate) fn n_gpu_bytes(source: &dyn Source) -> u64 {
    // What cannot be read is an error when it is loaded.
    let tensor = |name| source.tensor(name).ok().flatten();
    let tensors = source.names().into_iter().filter_map(tensor);
    let n_bytes = tensors.map(|tensor| {
        let n_values: usize = tensor.shape.iter().product();
        match block_format(tensor.dtype) {
            Some(_) => tensor.bytes.len(),
            None if is_plain(tensor.dtype) => 2 * n_values,
            None => n_values / BLOCK_LEN * BlockFormat::Q8_0.block_bytes(),
        }
    });
    n_bytes.map(|n_bytes| n_bytes as u64).sum()
}

/// How far the loading of weights is, in bytes of the checkpoint's tensors. The last that is told is the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Loaded by now.
    pub n_done: u64,
    /// To be loaded in all.
    pub n_total: u64,
}

/// Who hears how far the loading is.
pub(crate) type Listener = dyn Fn(LoadProgress) + Send + Sync;

/// Counts what was loaded. A tensor is loaded when the next one is asked for.
pub(crate) struct Progress<'a> {
    listener: Option<&'a Listener>,
    n_asked: Cell<u64>,
    n_total: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(source: &dyn Source, listener: Option<&'a Listener>) -> Self {
        // What cannot be read is an error when it is asked for.
        let tensor = |name| source.tensor(name).ok().flatten();
        let tensors = source.names().into_iter().filter_map(tensor);
        Self {
            listener,
            n_asked: Cell::new(0),
            n_total: tensors.map(|tensor| tensor.bytes.len() as u64).sum(),
        }
    }

    /// A tensor of so many bytes is asked for; those before it are done.
    fn asked(&self, n_bytes: usize) {
        self.tell(self.n_asked.get());
        self.n_asked.set(self.n_asked.get() + n_bytes as u64);
    }

    /// Everything is done, also what nobody asks for.
    pub(crate) fn finish(&self) {
        self.tell(self.n_total);
    }

    fn tell(&self, n_done: u64) {
        let n_total = self.n_total;
        if let Some(listener) = self.listener {
            listener(LoadProgress { n_done, n_total });
        }
    }
}

/// Loads weights of one source onto one device.
pub(crate) struct Loader<'a, D> {
    pub(crate) device: &'a D,
    pub(crate) source: &'a dyn Source,
    pub(crate) options: &'a DecoderOptions,
    /// What the stored weights of norms lack.
    pub(crate) norm_offset: f32,
    /// The names of the tensors that were asked for.
    pub(crate) asked: RefCell<HashSet<String>>,
    pub(crate) progress: Progress<'a>,
}

/// Tensors that may be left alone: what they hold is in the configuration, or follows from it.
const KNOWN_ENDINGS: [&str; 6] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
    "rotary_emb.inv_freq",
    // Where the embedding is the head.
    "lm_head.weight",
    "output.weight",
];

/// The same format, if the kernels take it as it is.
pub(crate) fn block_format(dtype: GgmlDType) -> Option<BlockFormat> {
    Some(match dtype {
        GgmlDType::Q4_0 => BlockFormat::Q4_0,
        GgmlDType::Q4_1 => BlockFormat::Q4_1,
        GgmlDType::Q5_0 => BlockFormat::Q5_0,
        GgmlDType::Q5_1 => BlockFormat::Q5_1,
        GgmlDType::Q8_0 => BlockFormat::Q8_0,
        GgmlDType::Q4K => BlockFormat::Q4K,
        GgmlDType::Q5K => BlockFormat::Q5K,
        GgmlDType::Q6K => BlockFormat::Q6K,
        _ => return None,
    })
}

/// A part's data on its way to the device.
enum Staged<'a> {
    Plain(Vec<f32>),
    F16(Cow<'a, [u8]>),
    Bf16(Cow<'a, [u8]>),
    Blocks(BlockFormat, Cow<'a, [u8]>),
}

impl<D: Device> Loader<'_, D> {
    fn plain(&self, weight: Weight, tensor: &RawTensor<'_>) -> Result<Vec<f32>, ModelError> {
        plain(tensor).map_err(|error| self.unreadable(weight, &error))
    }

    fn unreadable(&self, weight: Weight, error: &candle_core::Error) -> ModelError {
        let name = self.source.name(weight);
        self.source.invalid(format!("tensor {name}: {error}"))
    }

    fn expect(&self, weight: Weight, shape: &[usize]) -> Result<RawTensor<'_>, ModelError> {
        self.asked.borrow_mut().insert(self.source.name(weight));
        let tensor = self.source.expect(weight, shape)?;
        self.progress.asked(tensor.bytes.len());
        Ok(tensor)
    }

    /// That no tensor was left over: it would be part of equations that are not computed.
    pub(crate) fn check_all_used(&self) -> Result<(), ModelError> {
        let asked = self.asked.borrow();
        let is_left_over = |name: &&str| {
            !asked.contains(*name) && !KNOWN_ENDINGS.iter().any(|ending| name.ends_with(ending))
        };
        match self.source.names().into_iter().filter(is_left_over).min() {
            None => Ok(()),
            Some(name) => Err(self.source.unsupported(format!(
                "tensor {name}, which its architecture has no use for"
            ))),
        }
    }

    /// A norm's weights.
    pub(crate) fn norm(&self, weight: Weight, len: usize) -> Result<D::Vector, ModelError> {
        let tensor = self.expect(weight, &[len])?;
        let mut values = self.plain(weight, &tensor)?;
        values
            .iter_mut()
            .for_each(|value| *value += self.norm_offset);
        Ok(self.device.vector(&values))
    }

    /// A vector of `len` values.
    pub(crate) fn vector(&self, weight: Weight, len: usize) -> Result<D::Vector, ModelError> {
        self.vectors(&[(weight, len)])
    }

    /// Vectors one after another.
    pub(crate) fn vectors(&self, weights: &[(Weight, usize)]) -> Result<D::Vector, ModelError> {
        let mut values = Vec::new();
        for &(weight, len) in weights {
            let tensor = self.expect(weight, &[len])?;
            values.extend(self.plain(weight, &tensor)?);
        }
        Ok(self.device.vector(&values))
    }

    /// A matrix of `n_cols` inputs whose rows are those of the weights, in order.
    pub(crate) fn matrix(
        &self,
        n_cols: usize,
        weights: &[(Weight, usize)],
        grain: Grain,
    ) -> Result<D::Matrix, ModelError> {
        let tensors = weights.iter().map(|&(weight, n_rows)| {
            let tensor = self.expect(weight, &[n_rows, n_cols])?;
            Ok((n_rows, self.stage(weight, tensor, n_cols)?))
        });
        self.place(n_cols, &tensors.collect::<Result<Vec<_>, _>>()?, grain)
    }

    /// A matrix of `n_cols` inputs from one tensor, in parts of so many rows.
    pub(crate) fn split_matrix(
        &self,
        n_cols: usize,
        weight: Weight,
        n_rows: &[usize],
        grain: Grain,
    ) -> Result<D::Matrix, ModelError> {
        let tensor = self.expect(weight, &[n_rows.iter().sum(), n_cols])?;
        let mut start = 0;
        let parts = n_rows.iter().map(|&n_rows| {
            let rows = tensor.rows(start..start + n_rows);
            start += n_rows;
            Ok((n_rows, self.stage(weight, rows, n_cols)?))
        });
        self.place(n_cols, &parts.collect::<Result<Vec<_>, _>>()?, grain)
    }

    fn place(
        &self,
        n_cols: usize,
        staged: &[(usize, Staged<'_>)],
        grain: Grain,
    ) -> Result<D::Matrix, ModelError> {
        let parts: Vec<_> = staged
            .iter()
            .map(|(n_rows, staged)| MatrixPart {
                n_rows: *n_rows,
                data: match staged {
                    Staged::Plain(values) => MatrixData::F32(values),
                    Staged::F16(bytes) => MatrixData::F16(bytes.as_chunks().0),
                    Staged::Bf16(bytes) => MatrixData::Bf16(bytes.as_chunks().0),
                    Staged::Blocks(format, bytes) => MatrixData::Blocks(*format, bytes),
                },
            })
            .collect();
        self.device
            .matrix(n_cols, &parts, grain)
            .map_err(|error| self.source.invalid(error.to_string()))
    }

    /// Formats the kernels know stay as they are; plain values stay exact; every other quantised
    /// format becomes f32 for the reference and Q8_0, whose error is far below its own, otherwise. Where plain values are
    /// to be quantised, they become blocks, and nothing else is let in.
    fn stage<'t>(
        &self,
        weight: Weight,
        tensor: RawTensor<'t>,
        n_cols: usize,
    ) -> Result<Staged<'t>, ModelError> {
        if let Some(quantisation) = self.options.quantisation {
            let name = self.source.name(weight);
            if !is_plain(tensor.dtype) {
                return Err(ModelError::Options(format!(
                    "tensor {name} is {:?} already, and only F32, F16 and BF16 are quantised to {}: \
                     load the file as it is",
                    tensor.dtype,
                    quantisation.name()
                )));
            }
            if !n_cols.is_multiple_of(BLOCK_LEN) {
                return Err(ModelError::Options(format!(
                    "tensor {name} has rows of {n_cols} values: {} has blocks of {BLOCK_LEN}",
                    quantisation.name()
                )));
            }
            let n_threads = self.options.n_threads;
            let blocks = quantisation.blocks(weight, &tensor, n_threads);
            let blocks = blocks.map_err(|error| self.unreadable(weight, &error))?;
            let format = quantisation.format(weight);
            return Ok(Staged::Blocks(format, Cow::Owned(blocks)));
        }
        if let Some(format) = block_format(tensor.dtype) {
            return Ok(Staged::Blocks(format, tensor.bytes));
        }
        match tensor.dtype {
            GgmlDType::F16 => return Ok(Staged::F16(tensor.bytes)),
            GgmlDType::BF16 => return Ok(Staged::Bf16(tensor.bytes)),
            _ => {}
        }
        let values = self.plain(weight, &tensor)?;
        let is_exact = is_plain(tensor.dtype) || self.options.precision == Precision::Reference;
        Ok(if is_exact || !n_cols.is_multiple_of(BLOCK_LEN) {
            Staged::Plain(values)
        } else {
            Staged::Blocks(BlockFormat::Q8_0, Cow::Owned(quantise_q8_0(&values)))
        })
    }
}
