//! The GGUF container: metadata and tensors of one file, read in place from a memory map.
//!
//! Source: ggml's docs/gguf.md. Nothing is allocated by a count that the file claims: strings and
//! arrays stay slices of the map, and a count is believed only as far as its bytes are there. So a
//! damaged or hostile file costs one error and no memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use memmap2::Mmap;

use crate::ModelError;
use crate::weights::{LayerWeight, RawTensor, Source, Weight};

/// The most dimensions of a tensor (GGML_MAX_DIMS).
const MAX_DIMS: usize = 4;
/// The most tensors or metadata entries of a file: some twenty times the largest in use.
const MAX_ENTRIES: u64 = 1 << 17;

/// What is wrong with the bytes, without the file's name.
type Fault = String;

/// An opened file.
pub(crate) struct Gguf {
    path: PathBuf,
    map: Mmap,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
    /// Where tensor data begins.
    data_start: usize,
}

/// Where a metadata value lies in the map.
#[derive(Debug, Clone, Copy)]
struct Value {
    kind: u32,
    at: usize,
}

/// A tensor's entry in the header.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    /// Rows first: `[n_rows, n_cols]` where the file says `[n_cols, n_rows]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: GgmlDType,
    offset: u64,
    n_bytes: usize,
}

mod kind {
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;

    /// Bytes of a number; `None` for strings, arrays and unknown kinds.
    pub(super) fn n_bytes(kind: u32) -> Option<usize> {
        match kind {
            0 | 1 | BOOL => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        }
    }
}

/// A place in the map from which values are read.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n_bytes: u64) -> Result<&'a [u8], Fault> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(n_bytes) {
            Ok(n_bytes) if n_bytes <= left => {
                let taken = &self.bytes[self.at..self.at + n_bytes];
                self.at += n_bytes;
                Ok(taken)
            }
            _ => Err(format!(
                "byte {}: {n_bytes} bytes expected, the file has {left} more",
                self.at
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("as many bytes as taken"))
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The bytes of a string. Strings nobody asks for may be anything.
    fn string_bytes(&mut self) -> Result<&'a [u8], Fault> {
        let n_bytes = self.u64()?;
        self.take(n_bytes)
    }

    fn string(&mut self) -> Result<&'a str, Fault> {
        let at = self.at;
        std::str::from_utf8(self.string_bytes()?)
            .map_err(|_| format!("byte {at}: a string is not UTF-8"))
    }

    /// Steps over a value, checking that all of it is there.
    fn skip(&mut self, kind: u32) -> Result<(), Fault> {
        let at = self.at;
        if let Some(n_bytes) = kind::n_bytes(kind) {
            self.take(n_bytes as u64)?;
            return Ok(());
        }
        match kind {
            kind::STRING => self.string_bytes().map(|_| ()),
            kind::ARRAY => {
                let (element, n_elements) = (self.u32()?, self.u64()?);
                match (kind::n_bytes(element), element) {
                    (Some(n_bytes), _) => self
                        .take(n_elements.saturating_mul(n_bytes as u64))
                        .map(|_| ()),
                    // Each step takes at least eight bytes, so the count cannot outrun the file.
                    (None, kind::STRING) => {
                        (0..n_elements).try_for_each(|_| self.string_bytes().map(|_| ()))
                    }
                    _ => Err(format!("byte {at}: an array of kind {element}")),
                }
            }
            _ => Err(format!("byte {at}: a value of unknown kind {kind}")),
        }
    }
}

impl Gguf {
    /// Maps a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let read_error = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read_error)?;
        let map = map_file(&file).map_err(read_error)?;
        let mut gguf = Self {
            path: path.to_owned(),
            map,
            metadata: HashMap::new(),
            tensors: HashMap::new(),
            data_start: 0,
        };
        gguf.read_header().map_err(|reason| gguf.invalid(reason))?;
        Ok(gguf)
    }

    fn read_header(&mut self) -> Result<(), Fault> {
        let mut cursor = Cursor {
            bytes: &self.map,
            at: 0,
        };
        if cursor.array()? != *b"GGUF" {
            return Err("not a GGUF file".into());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version}, expected 2 or 3"));
        }
        let (n_tensors, n_values) = (cursor.u64()?, cursor.u64()?);
        if n_tensors.max(n_values) > MAX_ENTRIES {
            return Err(format!(
                "{n_tensors} tensors and {n_values} metadata entries, at most {MAX_ENTRIES} expected"
            ));
        }
        for _ in 0..n_values {
            let key = cursor.string()?.to_owned();
            let value = Value {
                kind: cursor.u32()?,
                at: cursor.at,
            };
            cursor.skip(value.kind)?;
            if self.metadata.insert(key.clone(), value).is_some() {
                return Err(format!("metadata entry {key} is given twice"));
            }
        }
        for _ in 0..n_tensors {
            let (name, info) = read_tensor_info(&mut cursor)?;
            if self.tensors.insert(name.clone(), info).is_some() {
                return Err(format!("tensor {name} is given twice"));
            }
        }
        let end = cursor.at;
        let alignment = self.alignment()?;
        self.data_start = end
            .checked_next_multiple_of(alignment)
            .ok_or("no room for data")?;
        for (name, info) in &self.tensors {
            self.data(info)
                .map_err(|reason| format!("tensor {name}: {reason}"))?;
        }
        Ok(())
    }

    fn alignment(&self) -> Result<usize, Fault> {
        let Some(alignment) = self.uint("general.alignment")? else {
            return Ok(32);
        };
        usize::try_from(alignment)
            .ok()
            .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20)
            .ok_or(format!(
                "general.alignment is {alignment}, expected a power of two"
            ))
    }

    fn data(&self, info: &TensorInfo) -> Result<&[u8], Fault> {
        let start = usize::try_from(info.offset)
            .ok()
            .and_then(|offset| offset.checked_add(self.data_start))
            .unwrap_or(usize::MAX);
        let end = start.saturating_add(info.n_bytes);
        self.map.get(start..end).ok_or_else(|| {
            format!(
                "its data ends at byte {end}, the file has {}",
                self.map.len()
            )
        })
    }

    /// An error about this file.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Invalid {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// An error about what this file asks for.
    pub(crate) fn unsupported(&self, what: impl Into<String>) -> ModelError {
        ModelError::Unsupported {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// A tensor's entry and bytes, if the file has it.
    pub(crate) fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.tensors.get(name)?;
        Some((
            info,
            self.data(info).expect("checked when the file was opened"),
        ))
    }

    fn value(&self, key: &str) -> Option<(u32, Cursor<'_>)> {
        let value = self.metadata.get(key)?;
        Some((
            value.kind,
            Cursor {
                bytes: &self.map,
                at: value.at,
            },
        ))
    }

    /// A whole number of any width, if the key is there.
    pub(crate) fn uint(&self, key: &str) -> Result<Option<u64>, Fault> {
        let Some((kind, mut cursor)) = self.value(key) else {
            return Ok(None);
        };
        let value = match kind {
            0 => Some(u64::from(cursor.array::<1>()?[0])),
            2 => Some(u64::from(u16::from_le_bytes(cursor.array()?))),
            4 => Some(u64::from(cursor.u32()?)),
            5 => u64::try_from(i32::from_le_bytes(cursor.array()?)).ok(),
            10 => Some(cursor.u64()?),
            11 => u64::try_from(i64::from_le_bytes(cursor.array()?)).ok(),
            _ => None,
        };
        value
            .map(Some)
            .ok_or(format!("{key} is no whole number of zero or more"))
    }

    /// A finite f32 or f64.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, Fault> {
        let Some((kind, mut cursor)) = self.value(key) else {
            return Ok(None);
        };
        let value = match kind {
            6 => f32::from_le_bytes(cursor.array()?),
            12 => f64::from_le_bytes(cursor.array()?) as f32,
            _ => return Err(format!("{key} is no float")),
        };
        if value.is_finite() {
            Ok(Some(value))
        } else {
            Err(format!("{key} is {value}"))
        }
    }

    /// A boolean.
    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, Fault> {
        match self.value(key) {
            None => Ok(None),
            Some((kind::BOOL, mut cursor)) => Ok(Some(cursor.array::<1>()?[0] != 0)),
            Some(_) => Err(format!("{key} is no boolean")),
        }
    }

    /// A string.
    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, Fault> {
        match self.value(key) {
            None => Ok(None),
            Some((kind::STRING, mut cursor)) => cursor.string().map(Some),
            Some(_) => Err(format!("{key} is no string")),
        }
    }

    /// An array of strings.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<&str>>, Fault> {
        let Some((mut cursor, n_elements)) = self.array(key, &[kind::STRING])? else {
            return Ok(None);
        };
        (0..n_elements)
            .map(|_| cursor.string())
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An array of 32-bit numbers, as their bits.
    fn words(&self, key: &str, kinds: &[u32]) -> Result<Option<Vec<u32>>, Fault> {
        let Some((mut cursor, n_elements)) = self.array(key, kinds)? else {
            return Ok(None);
        };
        (0..n_elements)
            .map(|_| cursor.u32())
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An array of i32 or u32.
    pub(crate) fn uints(&self, key: &str) -> Result<Option<Vec<u32>>, Fault> {
        self.words(key, &[4, 5])
    }

    /// An array of f32.
    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, Fault> {
        let words = self.words(key, &[6])?;
        Ok(words.map(|words| words.into_iter().map(f32::from_bits).collect()))
    }

    fn array(&self, key: &str, kinds: &[u32]) -> Result<Option<(Cursor<'_>, u64)>, Fault> {
        let Some((kind, mut cursor)) = self.value(key) else {
            return Ok(None);
        };
        if kind == kind::ARRAY && kinds.contains(&cursor.u32()?) {
            let n_elements = cursor.u64()?;
            return Ok(Some((cursor, n_elements)));
        }
        Err(format!("{key} is no array of the kind expected"))
    }
}

/// Maps a file for reading.
#[allow(unsafe_code)]
pub(crate) fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is only read. Were another process to shorten the file meanwhile, a read would
    // end this process; checkpoints are replaced by renaming, as with any mapped file.
    unsafe { Mmap::map(file) }
}

fn read_tensor_info(cursor: &mut Cursor<'_>) -> Result<(String, TensorInfo), Fault> {
    let name = cursor.string()?.to_owned();
    let n_dims = cursor.u32()? as usize;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(format!(
            "tensor {name} has {n_dims} dimensions, expected 1 to {MAX_DIMS}"
        ));
    }
    let mut shape = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        shape.push(usize::try_from(cursor.u64()?).unwrap_or(usize::MAX));
    }
    shape.reverse();
    let kind = cursor.u32()?;
    let dtype = dtype(kind).ok_or(format!("tensor {name} is of unknown type {kind}"))?;
    let n_bytes = n_bytes(&shape, dtype).ok_or(format!(
        "tensor {name} of shape {shape:?} is no whole number of {dtype:?} blocks"
    ))?;
    let info = TensorInfo {
        shape,
        dtype,
        offset: cursor.u64()?,
        n_bytes,
    };
    Ok((name, info))
}

/// Bytes of a tensor whose rows are whole blocks, if that is a number.
fn n_bytes(shape: &[usize], dtype: GgmlDType) -> Option<usize> {
    let (n_cols, outer) = shape.split_last()?;
    if *n_cols == 0 || !n_cols.is_multiple_of(dtype.block_size()) {
        return None;
    }
    let row = (n_cols / dtype.block_size()).checked_mul(dtype.type_size())?;
    outer.iter().try_fold(row, |bytes, n| bytes.checked_mul(*n))
}

/// The types of ggml that candle-core can dequantise, by their number in a file.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

impl Source for Gguf {
    fn name(&self, weight: Weight) -> String {
        use LayerWeight as L;
        let (layer_idx, weight) = match weight {
            Weight::Embedding => return "token_embd.weight".into(),
            Weight::FinalNorm => return "output_norm.weight".into(),
            Weight::Head => return "output.weight".into(),
            Weight::Layer(layer_idx, weight) => (layer_idx, weight),
        };
        let name = match weight {
            L::AttentionNorm => "attn_norm.weight",
            L::Query => "attn_q.weight",
            L::Key => "attn_k.weight",
            L::Value => "attn_v.weight",
            L::QueryKeyValue => "attn_qkv.weight",
            L::QueryBias => "attn_q.bias",
            L::KeyBias => "attn_k.bias",
            L::ValueBias => "attn_v.bias",
            L::QueryNorm => "attn_q_norm.weight",
            L::KeyNorm => "attn_k_norm.weight",
            L::Output => "attn_output.weight",
            L::OutputBias => "attn_output.bias",
            L::PostAttentionNorm => "post_attention_norm.weight",
            L::FfNorm => "ffn_norm.weight",
            L::Gate => "ffn_gate.weight",
            L::Up | L::GateUp => "ffn_up.weight",
            L::Down => "ffn_down.weight",
            L::PostFfNorm => "post_ffw_norm.weight",
        };
        format!("blk.{layer_idx}.{name}")
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        Ok(Gguf::tensor(self, name).map(|(info, bytes)| RawTensor {
            shape: info.shape.clone(),
            dtype: info.dtype,
            bytes: Cow::Borrowed(bytes),
        }))
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn invalid(&self, reason: String) -> ModelError {
        Gguf::invalid(self, reason)
    }

    fn unsupported(&self, what: String) -> ModelError {
        Gguf::unsupported(self, what)
    }
}
