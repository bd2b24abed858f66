//! Products with weights, and rows of them, as launches of the kernels in matmul.cu.

use std::ops::Range;

use super::device::{Cuda, CudaBuffer, CudaVector, WIDE_SHARED};
use super::driver::Argument;
use super::matrix::{CudaMatrix, Stretch};
use super::room::must;
use crate::{Activation, Norm};

/// Rows of tokens are padded to whole groups: `GROUP_LEN` in matmul.cu.
const GROUP_LEN: usize = 64;
/// Tokens up to which the narrow kernels are used; beyond, a block's 64 tokens are worth a stage in shared memory.
const NARROW_LIMIT: usize = 64;

/// What a product does with its result.
#[derive(Clone, Copy)]
enum Mode {
    Store,
    Add,
    Gate(Activation),
}

impl Mode {
    /// Its number, and that of its activation: `Mode` in matmul.cu, `Activation` in common.cu.
    fn numbers(self) -> (usize, usize) {
        match self {
            Mode::Store => (0, 0),
            Mode::Add => (1, 0),
            Mode::Gate(activation) => (2, number_of(activation)),
        }
    }
}

fn number_of(activation: Activation) -> usize {
    match activation {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    }
}

/// What the tokens in `Cuda::rounded` are multiplied to.
#[derive(Clone, Copy)]
struct Product {
    n_cols: usize,
    /// Elements from one token to the next.
    stride: usize,
    n_tokens: usize,
    mode: Mode,
    /// The address of the first row's bias, or 0.
    bias: u64,
    /// The address of the first token's first output.
    out: u64,
    out_width: usize,
}

impl Product {
    /// As this, with outputs and bias from the `n`th on.
    fn after(self, n: usize) -> Self {
        let n_bytes = (n * size_of::<f32>()) as u64;
        let bias = if self.bias == 0 {
            0
        } else {
            self.bias + n_bytes
        };
        Self {
            bias,
            out: self.out + n_bytes,
            ..self
        }
    }
}

/// Ascending rows of a matrix as numbers within the stretches they lie in, and which of them lie in each.
fn within_stretches(stretches: &[Stretch], rows: &[u32]) -> (Vec<u32>, Vec<Range<usize>>) {
    let mut within = rows.to_vec();
    let before = |end: usize| rows.partition_point(|&row| (row as usize) < end);
    let ranges = stretches.iter().map(|stretch| {
        let range = before(stretch.first)..before(stretch.first + stretch.n_rows);
        for row in &mut within[range.clone()] {
            *row -= stretch.first as u32;
        }
        range
    });
    let ranges = ranges.collect();
    (within, ranges)
}

/// An input and what norms it.
type Normed<'a> = (&'a CudaBuffer, Option<Norm<'a, CudaVector>>);

impl Cuda {
    /// Rounds the rows of `x`, normed if asked for, to elements in `self.rounded`; their stride.
    fn round(&mut self, x: &CudaBuffer, norm: Option<&Norm<'_, CudaVector>>) -> usize {
        let stride = x.width.next_multiple_of(GROUP_LEN);
        self.rounded.at_least(x.n_rows * stride * 2);
        let arguments = [
            x.memory.held().into(),
            norm.map(|norm| &norm.weight.memory).into(),
            norm.map_or(0.0, |norm| norm.eps).into(),
            x.n_rows.into(),
            x.width.into(),
            stride.into(),
            self.rounded.held().into(),
        ];
        self.launch("round_rows", [x.n_rows.div_ceil(8), 1], 0, &arguments);
        stride
    }

    /// Rounds `x` for a product with a matrix, whose outputs go to the address `out`.
    fn prepare(
        &mut self,
        matrix: &CudaMatrix,
        (x, norm): Normed<'_>,
        mode: Mode,
        (out, out_width): (u64, usize),
    ) -> Product {
        assert_eq!(x.width, matrix.n_cols, "inputs of a matrix");
        Product {
            n_cols: matrix.n_cols,
            stride: self.round(x, norm.as_ref()),
            n_tokens: x.n_rows,
            mode,
            bias: 0,
            out,
            out_width,
        }
    }

    /// A product stretch by stretch.
    fn multiply(&self, matrix: &CudaMatrix, product: Product) {
        for stretch in &matrix.stretches {
            let n_rows = match product.mode {
                Mode::Gate(_) => stretch.n_rows / 2,
                Mode::Store | Mode::Add => stretch.n_rows,
            };
            self.multiply_stretch(stretch, (n_rows, 0), product.after(stretch.first));
        }
    }

    /// A product with `n_rows` rows of a stretch: those whose numbers are at the address `picks`, or the first if it is 0.
    fn multiply_stretch(&self, stretch: &Stretch, (n_rows, picks): (usize, u64), product: Product) {
        let (mode, activation) = product.mode.numbers();
        let arguments = [
            (&stretch.codes).into(),
            stretch.tops.as_ref().into(),
            stretch.scales.as_ref().into(),
            n_rows.into(),
            product.n_cols.into(),
            Argument::Address(picks),
            self.rounded.held().into(),
            product.stride.into(),
            product.n_tokens.into(),
            mode.into(),
            Argument::Address(product.bias),
            Argument::Address(product.out),
            product.out_width.into(),
            activation.into(),
        ];
        let is_gate = matches!(product.mode, Mode::Gate(_));
        let n_tiles = n_rows.div_ceil(if is_gate { 8 } else { 16 });
        let n_tokens = product.n_tokens;
        let (kind, grid, n_shared) = match n_tokens {
            0..=8 => ("narrow_8", [n_tiles, 1], 0),
            9..=NARROW_LIMIT => ("narrow_32", [n_tiles, n_tokens.div_ceil(32)], 0),
            _ => (
                "wide",
                [n_tiles.div_ceil(8), n_tokens.div_ceil(64)],
                WIDE_SHARED,
            ),
        };
        let kernel = &stretch.kernels[kind];
        self.context.launch(kernel, grid, 256, n_shared, &arguments);
    }

    /// `out = x * matrix^T + bias`.
    pub(super) fn store_product(
        &mut self,
        matrix: &CudaMatrix,
        bias: Option<&CudaVector>,
        (x, norm): Normed<'_>,
        out: &mut CudaBuffer,
    ) {
        assert_eq!(out.width, matrix.n_rows, "outputs of a matrix");
        let to = (out.resize(x.n_rows).address(), out.width);
        let product = self.prepare(matrix, (x, norm), Mode::Store, to);
        let bias = bias.map_or(0, |bias| bias.memory.address());
        self.multiply(matrix, Product { bias, ..product });
    }

    /// `out += x * matrix^T + bias`.
    pub(super) fn add_product(
        &mut self,
        matrix: &CudaMatrix,
        bias: Option<&CudaVector>,
        x: &CudaBuffer,
        out: &mut CudaBuffer,
    ) {
        assert_eq!(out.width, matrix.n_rows, "outputs of a matrix");
        assert_eq!(x.n_rows, out.n_rows, "rows to add to");
        let to = (out.memory.held().address(), out.width);
        let product = self.prepare(matrix, (x, None), Mode::Add, to);
        let bias = bias.map_or(0, |bias| bias.memory.address());
        self.multiply(matrix, Product { bias, ..product });
    }

    /// `rows[0]` of the first token's product, then `rows[1]` of the second's, and so on. All rows that any token wants are
    /// multiplied with all tokens: weights are read once, and a step has few tokens.
    pub(super) fn picked_product(
        &mut self,
        matrix: &CudaMatrix,
        (x, norm): Normed<'_>,
        rows: &[&[u32]],
    ) -> Vec<f32> {
        assert_eq!(rows.len(), x.n_rows, "picks of every row");
        let mut wanted = rows.concat();
        wanted.sort_unstable();
        wanted.dedup();
        let Some(&last) = wanted.last() else {
            return Vec::new();
        };
        assert!((last as usize) < matrix.n_rows, "no row {last}");
        let width = wanted.len();
        let n_bytes = x.n_rows * width * size_of::<f32>();
        let to = (self.scratch.at_least(n_bytes).address(), width);
        let (within, ranges) = within_stretches(&matrix.stretches, &wanted);
        self.indices.put(&within);
        let product = self.prepare(matrix, (x, norm), Mode::Store, to);
        for (stretch, range) in matrix.stretches.iter().zip(ranges) {
            if range.is_empty() {
                continue;
            }
            let picks = self.indices.held().address() + (size_of::<u32>() * range.start) as u64;
            let product = product.after(range.start);
            self.multiply_stretch(stretch, (range.len(), picks), product);
        }
        let values: Vec<f32> = must(self.scratch.held().download(x.n_rows * width));
        let picked = values
            .chunks_exact(width)
            .zip(rows)
            .flat_map(|(values, rows)| {
                let place = |row| wanted.binary_search(row).expect("every pick is wanted");
                rows.iter().map(move |row| values[place(row)])
            });
        picked.collect()
    }

    /// `out = activation(y * gate^T) * (y * up^T)` of `y = norm(x)`.
    pub(super) fn gated_product(
        &mut self,
        matrix: &CudaMatrix,
        activation: Activation,
        (x, norm): Normed<'_>,
        out: &mut CudaBuffer,
    ) {
        assert_eq!(2 * out.width, matrix.n_rows, "outputs of a matrix");
        let (width, n_rows) = (out.width, x.n_rows);
        let out = out.resize(n_rows);
        if matrix.is_gate_and_up {
            let to = (out.address(), width);
            let product = self.prepare(matrix, (x, norm), Mode::Gate(activation), to);
            return self.multiply(matrix, product);
        }
        let n_bytes = n_rows * 2 * width * size_of::<f32>();
        let both = self.scratch.at_least(n_bytes).address();
        let product = self.prepare(matrix, (x, norm), Mode::Store, (both, 2 * width));
        self.multiply(matrix, product);
        let arguments = [
            Argument::Address(both),
            number_of(activation).into(),
            width.into(),
            n_rows.into(),
            out.into(),
        ];
        self.launch_each("gate_mul", n_rows * width, &arguments);
    }

    /// `out[i] = table[rows[i]]`, stretch by stretch.
    pub(super) fn take_rows(&mut self, table: &CudaMatrix, rows: &[u32], out: &mut CudaBuffer) {
        let start = out.resize(rows.len()).address();
        let stretch_of = |row: u32| {
            let after = table
                .stretches
                .partition_point(|stretch| stretch.first <= row as usize);
            after.checked_sub(1).expect("a stretch begins at 0")
        };
        let mut first = 0;
        for run in rows.chunk_by(|a, b| stretch_of(*a) == stretch_of(*b)) {
            let stretch = &table.stretches[stretch_of(run[0])];
            let within: Vec<u32> = run.iter().map(|row| row - stretch.first as u32).collect();
            let at = start + (first * out.width * size_of::<f32>()) as u64;
            self.gather_from(stretch, table.n_cols, &within, at);
            first += run.len();
        }
    }

    /// Rows of weights that all lie in one stretch.
    fn gather_from(&mut self, stretch: &Stretch, n_cols: usize, rows: &[u32], out: u64) {
        self.indices.put(rows);
        let arguments = [
            (&stretch.codes).into(),
            stretch.tops.as_ref().into(),
            stretch.scales.as_ref().into(),
            stretch.n_rows.into(),
            n_cols.into(),
            self.indices.held().into(),
            Argument::Address(out),
        ];
        let kernel = &stretch.kernels["gather"];
        self.context
            .launch(kernel, [rows.len(), 1], 128, 0, &arguments);
    }
}
