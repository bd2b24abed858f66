//! Weights as the kernels of matmul.cu want them.

use std::sync::Arc;

use half::bf16;

use super::driver::{Context, Memory};
use super::{CudaError, Element};
use crate::{BLOCK_LEN, BlockFormat, MatrixData, MatrixPart};

/// Weights that one thread takes at once: rows of elements are padded to whole chunks.
const CHUNK_LEN: usize = 16;

/// How a stretch of rows is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Elements,
    Blocks(BlockFormat),
}

impl Format {
    /// The end of its kernels' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Elements => "elements",
            Format::Blocks(BlockFormat::Q4_0) => "q4_0",
            Format::Blocks(BlockFormat::Q4_1) => "q4_1",
            Format::Blocks(BlockFormat::Q8_0) => "q8_0",
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
        for block in bytes.chunks_exact(format.block_bytes()) {
            self.scales.push(u16::from_le_bytes([block[0], block[1]]));
            let codes_start = match format {
                BlockFormat::Q4_0 | BlockFormat::Q8_0 => 2,
                BlockFormat::Q4_1 => {
                    self.minimums.push(u16::from_le_bytes([block[2], block[3]]));
                    4
                }
            };
            self.codes.extend_from_slice(&block[codes_start..]);
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

/// The parts as stretches of one format each.
pub(crate) fn pack(n_cols: usize, parts: &[MatrixPart<'_>], element: Element) -> Vec<Packed> {
    let mut packed: Vec<Packed> = Vec::new();
    for part in parts {
        let format = match part.data {
            MatrixData::F32(_) => Format::Elements,
            MatrixData::Blocks(format, _) => Format::Blocks(format),
        };
        if packed.last().is_none_or(|last| last.format != format) {
            packed.push(Packed::new(format));
        }
        let last = packed.last_mut().expect("one was pushed");
        last.n_rows += part.n_rows;
        match part.data {
            MatrixData::F32(values) => last.add_values(n_cols, values, element),
            MatrixData::Blocks(format, bytes) => last.add_blocks(format, bytes),
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
