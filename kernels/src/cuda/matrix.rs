//! Weights as the kernels of matmul.cu want them.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use half::bf16;

use super::compile::{Constants, MATMUL};
use super::device::{Cuda, Kernels, WIDE_SHARED};
use super::driver::{Context, Memory, Plain};
use super::{CudaError, Element};
use crate::{BLOCK_LEN, BlockFormat, MatrixData, MatrixPart};

/// Weights that one thread takes at once: rows of elements are padded to whole chunks.
const CHUNK_LEN: usize = 16;

/// Consecutive rows of one format.
pub(super) struct Stretch {
    /// The first row.
    pub(super) first: usize,
    pub(super) n_rows: usize,
    pub(super) codes: Memory,
    pub(super) tops: Option<Memory>,
    pub(super) scales: Option<Memory>,
    /// Those of its format.
    pub(super) kernels: Arc<Kernels>,
}

/// A weight matrix on a GPU.
pub struct CudaMatrix {
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
    pub(super) stretches: Vec<Stretch>,
    /// Whether it is two parts of as many rows and one format, which one kernel can gate.
    pub(super) is_gate_and_up: bool,
}

/// A stretch on its way to the GPU. Blocks are as many bytes as in their file, but taken apart, so that whatever the format,
/// aligned words hold the codes of sixteen weights.
#[derive(Debug, Default)]
struct Packed {
    /// None: elements.
    format: Option<BlockFormat>,
    n_rows: usize,
    /// Elements, codes of eight bits, or the low four bits of codes: of value `i` of 32 low and of `i + 16` high in byte `i`.
    codes: Vec<u8>,
    /// The bits above. With `n` of them a code, those of value `i` of 32 are in word `n * i / 32`, from bit
    /// `8 * (i % 4) + n * (i / 4) % 8` on: four codes in a row have them where their low bits are as bytes.
    tops: Vec<u32>,
    /// Scales and minimums of each block as in its file.
    scales: Vec<u8>,
}

impl Packed {
    /// Adds the rows of another stretch of its format.
    fn append(&mut self, next: Self) {
        self.n_rows += next.n_rows;
        self.codes.extend(next.codes);
        self.tops.extend(next.tops);
        self.scales.extend(next.scales);
    }

    /// Adds rows, `bytes` being whole blocks as in GGUF files.
    fn add_blocks(&mut self, format: BlockFormat, bytes: &[u8]) {
        for block in bytes.chunks_exact(format.block_bytes()) {
            self.scales.extend_from_slice(&block[format.scale_bytes()]);
        }
        let n_bits = format.coding().n_bits;
        format.unpack(bytes, |block| {
            if n_bits == 8 {
                return self.codes.extend_from_slice(&block.codes);
            }
            let (first, second) = block.codes.split_at(BLOCK_LEN / 2);
            let pairs = first.iter().zip(second);
            self.codes
                .extend(pairs.map(|(low, high)| low & 15 | high << 4));
            let n_tops = n_bits - 4;
            let mut words = [0u32; 2];
            for (i, code) in block.codes.iter().enumerate() {
                let shift = 8 * (i % 4) + n_tops * (i / 4) % 8;
                words[n_tops * i / 32] |= u32::from(code >> 4) << shift;
            }
            self.tops.extend(&words[..n_tops]);
        });
    }

    /// Adds rows of plain values, rounded to elements and padded to whole chunks.
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
pub(super) fn round(value: f32, element: Element) -> u16 {
    match element {
        Element::Bf16 => bf16::from_f32(value).to_bits(),
        Element::F16 => half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits(),
    }
}

/// Weights that are worth a thread of their own.
const MIN_PACKED: usize = 1 << 20;

/// Rows of a part, packed.
fn pack_rows(part: &MatrixPart<'_>, rows: Range<usize>, n_cols: usize, element: Element) -> Packed {
    let mut packed = Packed {
        n_rows: rows.len(),
        ..Packed::default()
    };
    match part.data.rows(rows, n_cols) {
        MatrixData::F32(values) => packed.add_values(n_cols, values, element),
        MatrixData::Blocks(format, bytes) => {
            packed.format = Some(format);
            packed.add_blocks(format, bytes);
        }
        plain => {
            let mut values = Vec::new();
            plain.widen(&mut values);
            packed.add_values(n_cols, &values, element);
        }
    }
    packed
}

/// The parts as stretches of one format each, their rows shared out among threads.
fn pack(n_cols: usize, parts: &[MatrixPart<'_>], element: Element) -> Vec<Packed> {
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let mut packed: Vec<Packed> = Vec::new();
    for part in parts {
        let least = MIN_PACKED.div_ceil(n_cols.max(1));
        let n_each = part.n_rows.div_ceil(n_threads).max(least);
        let pieces: Vec<_> = thread::scope(|scope| {
            let starts = (0..part.n_rows).step_by(n_each);
            let threads = starts.map(|start| {
                let rows = start..part.n_rows.min(start + n_each);
                scope.spawn(move || pack_rows(part, rows, n_cols, element))
            });
            let threads: Vec<_> = threads.collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined.collect::<Result<_, _>>()
        })
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for piece in pieces {
            match packed.last_mut().filter(|last| last.format == piece.format) {
                None => packed.push(piece),
                Some(last) => last.append(piece),
            }
        }
    }
    packed
}

impl Cuda {
    /// Places parts whose data has been checked against their shapes.
    pub(super) fn place_matrix(
        &self,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
    ) -> Result<CudaMatrix, CudaError> {
        fn place<T: Plain>(
            context: &Arc<Context>,
            values: &[T],
        ) -> Result<Option<Memory>, CudaError> {
            let memory = (!values.is_empty()).then(|| context.place(values));
            memory.transpose()
        }
        let mut stretches = Vec::new();
        let mut first = 0;
        for packed in pack(n_cols, parts, self.element) {
            stretches.push(Stretch {
                first,
                n_rows: packed.n_rows,
                codes: self.context.place(&packed.codes)?,
                tops: place(&self.context, &packed.tops)?,
                scales: place(&self.context, &packed.scales)?,
                kernels: self.products_of(packed.format)?,
            });
            first += packed.n_rows;
        }
        let is_gate_and_up =
            stretches.len() == 1 && matches!(parts, [gate, up] if gate.n_rows == up.n_rows);
        Ok(CudaMatrix {
            n_rows: first,
            n_cols,
            stretches,
            is_gate_and_up,
        })
    }

    /// The kernels for weights of a format, compiled or found when they are first asked for.
    fn products_of(&self, format: Option<BlockFormat>) -> Result<Arc<Kernels>, CudaError> {
        let mut loaded = self.products.borrow_mut();
        if let Some(kernels) = loaded.get(&format) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = self.load(MATMUL, Constants::Weights(format, self.element))?;
        kernels["wide"].allow_shared(WIDE_SHARED)?;
        let kernels = Arc::new(kernels);
        loaded.insert(format, Arc::clone(&kernels));
        Ok(kernels)
    }
}
