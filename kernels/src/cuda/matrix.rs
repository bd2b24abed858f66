//! Weights as the kernels of matmul.cu want them.

use std::sync::Arc;

use half::bf16;

use super::driver::{Context, Memory};
use super::{CudaError, Element};
use crate::{BLOCK_LEN, BlockFormat, MatrixData, MatrixPart, quantise_q8_0};

/// Weights that one thread takes at once: rows of elements are padded to whole chunks.
const CHUNK_LEN: usize = 16;

/// How a stretch of rows is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Elements,
    Q4_0,
    Q4_1,
    Q8_0,
}

impl Format {
    /// The same format, if there are kernels for it.
    fn of(format: BlockFormat) -> Option<Self> {
        match format {
            BlockFormat::Q4_0 => Some(Format::Q4_0),
            BlockFormat::Q4_1 => Some(Format::Q4_1),
            BlockFormat::Q8_0 => Some(Format::Q8_0),
            _ => None,
        }
    }

    /// The end of its kernels' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Elements => "elements",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
            Format::Q8_0 => "q8_0",
        }
    }
}

/// Consecutive rows of one format.
pub(crate) struct Stretch {
    pub(crate) format: Format,
    /// The first row.
    pub(crate) first: usize,
    pub(crate) n_rows: usize,
    pub(crate) codes: Memory,
    pub(crate) scales: Option<Memory>,
    pub(crate) minimums: Option<Memory>,
}

/// A weight matrix on a GPU.
pub struct CudaMatrix {
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) stretches: Vec<Stretch>,
    /// Whether it is two parts of as many rows and one format, which one kernel can gate.
    pub(crate) is_gate_and_up: bool,
}

/// A stretch on its way to the GPU.
#[derive(Debug, PartialEq)]
pub(crate) struct Packed {
    pub(crate) format: Format,
    pub(crate) n_rows: usize,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u16>,
    pub(crate) minimums: Vec<u16>,
}

impl Packed {
    fn new(format: Format) -> Self {
        Self {
            format,
            n_rows: 0,
            codes: Vec::new(),
            scales: Vec::new(),
            minimums: Vec::new(),
        }
    }

    /// Adds a part's rows, `bytes` being whole blocks as in GGUF files: codes, scales and minimums apart.
    fn add_blocks(&mut self, format: BlockFormat, bytes: &[u8]) {
        let has_minimum = format.coding().has_minimum;
        for block in bytes.chunks_exact(format.block_bytes()) {
            let (halves, codes) = block.split_at(if has_minimum { 4 } else { 2 });
            self.scales.push(u16::from_le_bytes([halves[0], halves[1]]));
            if has_minimum {
                self.minimums
                    .push(u16::from_le_bytes([halves[2], halves[3]]));
            }
            self.codes.extend_from_slice(codes);
        }
    }

    /// Adds a part's rows of plain values, rounded to elements and padded to whole chunks.
    fn add_values(&mut self, n_cols: usize, values: &[f32], element: Element) {
        for row in values.chunks_exact(n_cols) {
            for &value in row {
                self.codes.extend(round(value, element).to_le_bytes());
            }
            let n_padded = n_cols.next_multiple_of(CHUNK_LEN) - n_cols;
            self.codes.extend(std::iter::repeat_n(0, 2 * n_padded));
        }
    }
}

/// The nearest element; f16 saturates.
pub(crate) fn round(value: f32, element: Element) -> u16 {
    match element {
        Element::Bf16 => bf16::from_f32(value).to_bits(),
        Element::F16 => half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits(),
    }
}

/// The parts as stretches of one format each. Formats without kernels become Q8_0.
pub(crate) fn pack(n_cols: usize, parts: &[MatrixPart<'_>], element: Element) -> Vec<Packed> {
    let mut packed: Vec<Packed> = Vec::new();
    for part in parts {
        let requantised;
        let (format, data) = match part.data {
            MatrixData::F32(_) | MatrixData::F16(_) | MatrixData::Bf16(_) => {
                (Format::Elements, part.data)
            }
            MatrixData::Blocks(given, bytes) => match Format::of(given) {
                Some(format) => (format, part.data),
                None => {
                    let mut values = Vec::new();
                    given.dequantise(bytes, &mut values);
                    requantised = quantise_q8_0(&values);
                    let data = MatrixData::Blocks(BlockFormat::Q8_0, &requantised);
                    (Format::Q8_0, data)
                }
            },
        };
        if packed.last().is_none_or(|last| last.format != format) {
            packed.push(Packed::new(format));
        }
        let last = packed.last_mut().expect("one was pushed");
        last.n_rows += part.n_rows;
        match data {
            MatrixData::Blocks(format, bytes) => last.add_blocks(format, bytes),
            plain => {
                let mut values = Vec::new();
                plain.widen(&mut values);
                last.add_values(n_cols, &values, element);
            }
        }
    }
    debug_assert!(n_cols.is_multiple_of(BLOCK_LEN) || packed.iter().all(|p| p.scales.is_empty()));
    packed
}

impl CudaMatrix {
    /// Places parts whose data has been checked against their shapes.
    pub(crate) fn place(
        context: &Arc<Context>,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        element: Element,
    ) -> Result<Self, CudaError> {
        let mut stretches = Vec::new();
        let mut first = 0;
        for packed in pack(n_cols, parts, element) {
            let place = |values: &[u16]| {
                let memory = (!values.is_empty()).then(|| context.place(values));
                memory.transpose()
            };
            stretches.push(Stretch {
                format: packed.format,
                first,
                n_rows: packed.n_rows,
                codes: context.place(&packed.codes)?,
                scales: place(&packed.scales)?,
                minimums: place(&packed.minimums)?,
            });
            first += packed.n_rows;
        }
        let is_gate_and_up =
            stretches.len() == 1 && matches!(parts, [gate, up] if gate.n_rows == up.n_rows);
        Ok(Self {
            n_rows: first,
            n_cols,
            stretches,
            is_gate_and_up,
        })
    }
}
