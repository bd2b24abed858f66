//! The operations a decoder needs, and the words they share.
//!
//! A *buffer* is a matrix of f32 activations `[n_rows, width]`, one row a token, whose number of rows
//! each operation sets on its output. A *matrix* is a weight `[n_rows, n_cols]` that maps `n_cols`
//! inputs to `n_rows` outputs; how activations are rounded before they meet it is the device's
//! business. *Keys and values* live in pages of a pool; a *slot* is one token's place in it.

use std::ops::Range;

use half::{bf16, f16};

use crate::{BlockFormat, Draw, Drawn, KernelError, KvShape};

/// Which elements of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// Elements 2i and 2i + 1 (GGUF files of the llama architecture).
    Interleaved,
    /// Elements i and i + head_dim / 2 (Hugging Face folders; GGUF files of Qwen).
    Halves,
}

/// How many activations share a scale where they are rounded to int8 before a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// About half the error, and two multiplications a block more. Weights that share a scale in sixteens need it.
    Sixteen,
    /// As many as a block of weights has inputs.
    ThirtyTwo,
    /// Sixteen; but a machine that multiplies squares of bytes may round activations to sixteen bits, all of a row with one scale, and
    /// weights of eight bits to 256 steps from the least of their row to the greatest. In layers that would diverge more than blocks do; in
    /// the head alone, whose error no layer multiplies, it is worth its speed.
    Whole,
}

/// The values of one matrix part, row after row.
#[derive(Debug, Clone, Copy)]
pub enum MatrixData<'a> {
    /// Plain values, `[n_rows, n_cols]`.
    F32(&'a [f32]),
    /// Little-endian IEEE halves, `[n_rows, n_cols]`.
    F16(&'a [[u8; 2]]),
    /// Little-endian upper halves of f32, `[n_rows, n_cols]`.
    Bf16(&'a [[u8; 2]]),
    /// GGUF blocks, `[n_rows, n_cols / block_len]`.
    Blocks(BlockFormat, &'a [u8]),
}

impl MatrixData<'_> {
    /// Some of the rows.
    pub(crate) fn rows(self, rows: Range<usize>, n_cols: usize) -> Self {
        let of_values = rows.start * n_cols..rows.end * n_cols;
        match self {
            MatrixData::F32(values) => MatrixData::F32(&values[of_values]),
            MatrixData::F16(values) => MatrixData::F16(&values[of_values]),
            MatrixData::Bf16(values) => MatrixData::Bf16(&values[of_values]),
            MatrixData::Blocks(format, bytes) => {
                let n_bytes = n_cols / format.block_len() * format.block_bytes();
                MatrixData::Blocks(format, &bytes[rows.start * n_bytes..rows.end * n_bytes])
            }
        }
    }

    /// Appends the plain values.
    pub(crate) fn widen(self, out: &mut Vec<f32>) {
        match self {
            MatrixData::F32(values) => out.extend_from_slice(values),
            MatrixData::F16(values) => {
                out.extend(values.iter().map(|x| f16::from_le_bytes(*x).to_f32()));
            }
            MatrixData::Bf16(values) => {
                out.extend(values.iter().map(|x| bf16::from_le_bytes(*x).to_f32()));
            }
            MatrixData::Blocks(format, bytes) => format.dequantise(bytes, out),
        }
    }
}

/// Some consecutive output rows of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct MatrixPart<'a> {
    /// Output rows in this part.
    pub n_rows: usize,
    /// Their values.
    pub data: MatrixData<'a>,
}

impl MatrixPart<'_> {
    /// That the data is `[n_rows, n_cols]`, in whole blocks if quantised.
    pub(crate) fn check(&self, n_cols: usize) -> Result<(), KernelError> {
        let n_rows = self.n_rows;
        let n_values = n_rows.saturating_mul(n_cols);
        let (given, expected, unit) = match self.data {
            MatrixData::F32(values) => (values.len(), n_values, "values"),
            MatrixData::F16(values) | MatrixData::Bf16(values) => {
                (values.len(), n_values, "values")
            }
            MatrixData::Blocks(format, bytes) => {
                let block_len = format.block_len();
                if !n_cols.is_multiple_of(block_len) {
                    return Err(KernelError::RaggedRow { n_cols, block_len });
                }
                let n_blocks = n_rows.saturating_mul(n_cols / block_len);
                (
                    bytes.len(),
                    n_blocks.saturating_mul(format.block_bytes()),
                    "bytes",
                )
            }
        };
        if given == expected {
            Ok(())
        } else {
            Err(KernelError::Shape {
                n_rows,
                n_cols,
                given,
                expected,
                unit,
            })
        }
    }
}

/// Consecutive heads within a buffer's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// The element at which the first head begins.
    pub first: usize,
    /// How many heads.
    pub n_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl Heads {
    /// The element after the last head.
    #[must_use]
    pub fn end(&self) -> usize {
        self.first + self.n_heads * self.head_dim
    }
}

/// An RMS norm: `x / sqrt(mean(x^2) + eps) * weight`, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a, V> {
    /// As long as a row.
    pub weight: &'a V,
    /// Keeps a row of zeros finite.
    pub eps: f32,
}

/// What becomes of a gate before it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// GELU by its tangent: `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))` (Hendrycks and Gimpel 2016).
    GeluTanh,
}

/// How one layer attends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionLayer {
    /// Which layer's keys and values are read.
    pub idx: usize,
    /// What the product of a query and a key is multiplied by.
    pub scale: f32,
    /// The cap c of scores, which become `c * tanh(score / c)`.
    pub softcap: Option<f32>,
    /// How many positions a query sees, its own among them; `None`: all up to its own.
    pub window: Option<usize>,
}

impl AttentionLayer {
    /// The first position that a query at `position` sees.
    #[must_use]
    pub fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Where one token's keys and values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The page.
    pub page: u32,
    /// The position within the page.
    pub offset: u32,
}

/// Consecutive rows of a buffer that are consecutive positions of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpan<'a> {
    /// The first row.
    pub first_row: usize,
    /// How many rows.
    pub n_rows: usize,
    /// The position of the first row; row `i` attends to positions up to `start + i`.
    pub start: usize,
    /// The sequence's block table.
    pub pages: &'a [u32],
}

/// A place where tensors live and the operations on them.
///
/// Operations panic if shapes disagree: the caller has checked the checkpoint and the batch before.
pub trait Device: Send {
    /// Activations, `[n_rows, width]` f32.
    type Buffer: Send;
    /// A weight matrix in the device's own layout.
    type Matrix: Send;
    /// A small f32 vector: a norm's weight, a bias, rope frequencies.
    type Vector: Send;
    /// The pool of key and value pages, of all layers.
    type Kv: Send;

    /// Places a matrix of `n_cols` inputs whose output rows are those of the `parts`, in order. The `grain` is for
    /// devices that round activations.
    ///
    /// # Errors
    /// If a part's data does not match its shape.
    fn matrix(
        &self,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        grain: Grain,
    ) -> Result<Self::Matrix, KernelError>;

    /// Places a vector.
    fn vector(&self, values: &[f32]) -> Self::Vector;

    /// Makes a buffer without rows.
    fn buffer(&self, width: usize) -> Self::Buffer;

    /// Makes a zeroed pool.
    ///
    /// # Errors
    /// If there is not enough memory.
    fn kv(&self, shape: KvShape) -> Result<Self::Kv, KernelError>;

    /// `out[i] = table[rows[i]]`, exact values of the stored weights.
    fn gather(&mut self, table: &Self::Matrix, rows: &[u32], out: &mut Self::Buffer);

    /// `x *= factor`.
    fn scale(&mut self, x: &mut Self::Buffer, factor: f32);

    /// `x = cap * tanh(x / cap)`.
    fn softcap(&mut self, x: &mut Self::Buffer, cap: f32);

    /// `out += norm(x)`.
    fn norm_add(&mut self, x: &Self::Buffer, norm: Norm<'_, Self::Vector>, out: &mut Self::Buffer);

    /// RMS norm of each head on its own, in place; `weight` is `[head_dim]`.
    fn head_norm(&mut self, x: &mut Self::Buffer, heads: Heads, weight: &Self::Vector, eps: f32);

    /// `out = norm(x) * matrix^T + bias`.
    fn matmul(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    );

    /// Some outputs of `norm(x) * matrix^T`: `rows[0]` of the first row of `x`, then `rows[1]` of the second, and so on.
    /// Each of `rows` ascends. The values are those of [`Device::matmul`], bit for bit.
    fn matmul_picked(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        rows: &[&[u32]],
    ) -> Vec<f32>;

    /// `out += x * matrix^T + bias`.
    fn matmul_add(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    );

    /// `out = activation(y * gate^T) * (y * up^T)` of `y = norm(x)`, where the gate and the up are the two parts of the
    /// matrix.
    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        activation: Activation,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    );

    /// The cosines, then the sines, of `positions[i] * frequencies`, all times `scale`:
    /// `[n_positions, 2 * n_frequencies]`.
    fn rope_angles(
        &mut self,
        frequencies: &Self::Vector,
        scale: f32,
        positions: &[u32],
        out: &mut Self::Buffer,
    );

    /// Rotates the first elements of each head, as many as a row of `angles` has, by that row's angles, in place.
    fn rope(
        &mut self,
        x: &mut Self::Buffer,
        heads: Heads,
        layout: RopeLayout,
        angles: &Self::Buffer,
    );

    /// Writes each row's keys and values (all their heads) to its slot in a layer.
    fn kv_scatter(
        &mut self,
        kv: &mut Self::Kv,
        layer_idx: usize,
        x: &Self::Buffer,
        keys: Heads,
        values: Heads,
        slots: &[Slot],
    );

    /// Causal attention of the `queries` heads of `x` over the pages: `out` is
    /// `[n_rows, n_heads * head_dim]`. Query head `h` reads key head `h * n_kv_heads / n_heads`.
    fn attention(
        &mut self,
        kv: &Self::Kv,
        layer: AttentionLayer,
        x: &Self::Buffer,
        queries: Heads,
        spans: &[AttentionSpan<'_>],
        out: &mut Self::Buffer,
    );

    /// Copies the first `n_tokens` slots of page `from` to page `to`, in all layers.
    fn copy_page(&mut self, kv: &mut Self::Kv, from: u32, to: u32, n_tokens: usize);

    /// `out[i] = x[rows[i]]`.
    fn select_rows(&mut self, x: &Self::Buffer, rows: &[usize], out: &mut Self::Buffer);

    /// Chooses a token of each draw's row of `logits` as [`Draw::of`] defines it; log-probabilities may differ by rounding. The
    /// rows are left as they were.
    ///
    /// # Panics
    /// If two draws are of the same row, or there is no such row.
    fn sample(&mut self, logits: &mut Self::Buffer, draws: &[Draw<'_>]) -> Vec<Drawn>;

    /// Moves values into a buffer; `values` is `[n_rows, width]`.
    fn write(&mut self, out: &mut Self::Buffer, values: &[f32]);

    /// The values of a buffer, `[n_rows, width]`.
    fn read(&mut self, x: &Self::Buffer) -> Vec<f32>;
}
