//! Products of weights and activations.
//!
//! Each output element is one lane's running sum over the blocks (or, for plain weights, the inputs)
//! in ascending order. How many columns are computed side by side, which thread computes them and
//! which tier it uses changes nothing in that sum, so it changes no bit.

use super::Vectors;
use super::matrix::{BlockLayout, HALVES, LINE, Matrix, Part, Tiles};
use super::quantise::{Column, Columns, GROUPS};
use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, LANES, Simd};
use crate::{BLOCK_LEN, BlockFormat};

/// Columns whose activations stay in the nearer caches while all tiles pass over them.
const N_RESIDENT: usize = 128;

/// `out = x * matrix^T + bias`; `columns` is `x` quantised, if the matrix has quantised parts.
pub(crate) fn matmul(
    pool: &mut Pool,
    vectors: Vectors,
    matrix: &Matrix,
    bias: Option<&Vec<f32>>,
    x: &Buffer,
    columns: &Columns,
    out: &mut Buffer,
) {
    assert_eq!(x.width(), matrix.n_cols(), "inputs of a matrix");
    assert_eq!(out.width(), matrix.n_rows(), "outputs of a matrix");
    let n_tiles = matrix.parts().iter().map(Part::n_tiles).sum();
    let (n_columns, width) = (x.n_rows(), out.width());
    let out = SharedSlice::new(out.resize(n_columns));
    pool.run_split(n_tiles, 2, |tiles| {
        let mut first_tile = 0;
        for part in matrix.parts() {
            let end = first_tile + part.n_tiles();
            let mine = tiles.start.max(first_tile)..tiles.end.min(end);
            if !mine.is_empty() {
                let tiles = mine.start - first_tile..mine.end - first_tile;
                let output = Output {
                    out: &out,
                    width,
                    bias: bias.map(Vec::as_slice),
                };
                vectors.run(PartProduct {
                    part,
                    tiles,
                    x,
                    columns,
                    output,
                });
            }
            first_tile = end;
        }
    });
}

/// Where finished lanes go.
#[derive(Clone, Copy)]
struct Output<'a> {
    out: &'a SharedSlice<'a, f32>,
    width: usize,
    bias: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Stores the rows of one tile for one column; the last tile of a part may be short.
    #[inline(always)]
    fn put<S: Simd>(self, s: S, part: &Part, tile_idx: usize, column_idx: usize, sums: S::F) {
        let row = part.first_row + tile_idx * LANES;
        let n_rows = LANES.min(part.n_rows - tile_idx * LANES);
        let at = column_idx * self.width + row;
        // SAFETY: tiles are split among the threads, so nobody else writes these rows.
        let target = unsafe { self.out.part_mut(at..at + n_rows) };
        let mut lanes = [0.0; LANES];
        s.store(sums, &mut lanes);
        if let Some(bias) = self.bias {
            for (lane, bias) in lanes.iter_mut().zip(&bias[row..row + n_rows]) {
                *lane += bias;
            }
        }
        target.copy_from_slice(&lanes[..n_rows]);
    }
}

/// Some tiles of a part, times all columns.
struct PartProduct<'a> {
    part: &'a Part,
    tiles: std::ops::Range<usize>,
    x: &'a Buffer,
    columns: &'a Columns,
    output: Output<'a>,
}

impl Kernel for PartProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match &self.part.tiles {
            Tiles::Plain(values) => self.each_group(s, &Plain { values, x: self.x }),
            Tiles::Blocks(format, lines) => {
                let (bytes, columns) = (lines.bytes(), self.columns);
                let n_blocks = self.x.width() / BLOCK_LEN;
                match format {
                    BlockFormat::Q4_0 => self.each_group(
                        s,
                        &Q4_0 {
                            bytes,
                            n_blocks,
                            columns,
                        },
                    ),
                    BlockFormat::Q4_1 => self.each_group(
                        s,
                        &Q4_1 {
                            bytes,
                            n_blocks,
                            columns,
                        },
                    ),
                    BlockFormat::Q8_0 => self.each_group(
                        s,
                        &Q8_0 {
                            bytes,
                            n_blocks,
                            columns,
                        },
                    ),
                }
            }
        }
    }
}

impl PartProduct<'_> {
    /// Covers tiles and columns with groups of eight, four, two and single columns.
    #[inline(always)]
    fn each_group<S: Simd>(&self, s: S, weights: &impl Weights) {
        let n_columns = self.x.n_rows();
        for first in (0..n_columns).step_by(N_RESIDENT) {
            let end = n_columns.min(first + N_RESIDENT);
            for tile_idx in self.tiles.clone() {
                let mut column_idx = first;
                while column_idx + 8 <= end {
                    self.group::<S, 8>(s, weights, tile_idx, column_idx);
                    column_idx += 8;
                }
                if column_idx + 4 <= end {
                    self.group::<S, 4>(s, weights, tile_idx, column_idx);
                    column_idx += 4;
                }
                if column_idx + 2 <= end {
                    self.group::<S, 2>(s, weights, tile_idx, column_idx);
                    column_idx += 2;
                }
                if column_idx < end {
                    self.group::<S, 1>(s, weights, tile_idx, column_idx);
                }
            }
        }
    }

    #[inline(always)]
    fn group<S: Simd, const C: usize>(
        &self,
        s: S,
        weights: &impl Weights,
        tile_idx: usize,
        column_idx: usize,
    ) {
        let sums = weights.product::<S, C>(s, tile_idx, column_idx);
        for (i, sums) in sums.into_iter().enumerate() {
            self.output
                .put(s, self.part, tile_idx, column_idx + i, sums);
        }
    }
}

/// A format of tiles.
trait Weights {
    /// One tile times `C` columns from `column_idx` on.
    fn product<S: Simd, const C: usize>(
        &self,
        s: S,
        tile_idx: usize,
        column_idx: usize,
    ) -> [S::F; C];
}

struct Plain<'a> {
    values: &'a [f32],
    x: &'a Buffer,
}

impl Weights for Plain<'_> {
    #[inline(always)]
    fn product<S: Simd, const C: usize>(
        &self,
        s: S,
        tile_idx: usize,
        column_idx: usize,
    ) -> [S::F; C] {
        let n_cols = self.x.width();
        let rows: [&[f32]; C] = std::array::from_fn(|i| &self.x.row(column_idx + i)[..n_cols]);
        let tile = &self.values[tile_idx * n_cols * LANES..][..n_cols * LANES];
        let mut sums = [s.splat(0.0); C];
        for (k, weights) in tile.as_chunks::<LANES>().0.iter().enumerate() {
            let weights = s.load(weights);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum = s.mul_add(weights, s.splat(row[k]), *sum);
            }
        }
        sums
    }
}

/// A quantised format: `$name`'s products, with one unpacking and one correction of the integer sum.
macro_rules! block_weights {
    ($name:ident, $format:expr, $unpack:ident) => {
        struct $name<'a> {
            bytes: &'a [u8],
            n_blocks: usize,
            columns: &'a Columns,
        }

        impl Weights for $name<'_> {
            #[inline(always)]
            fn product<S: Simd, const C: usize>(
                &self,
                s: S,
                tile_idx: usize,
                column_idx: usize,
            ) -> [S::F; C] {
                const LAYOUT: BlockLayout = BlockLayout::of($format);
                let tile_bytes = self.n_blocks * LAYOUT.bytes();
                let tile = &self.bytes[tile_idx * tile_bytes..][..tile_bytes];
                let columns: [Column<'_>; C] =
                    std::array::from_fn(|i| self.columns.column(column_idx + i));
                let mut sums = [s.splat(0.0); C];
                for (block_idx, block) in tile.chunks_exact(LAYOUT.bytes()).enumerate() {
                    let steps = $unpack(s, block);
                    let (scales, minimums) = extents(s, LAYOUT, block);
                    for (sum, column) in sums.iter_mut().zip(&columns) {
                        let extent = column.extents[block_idx];
                        let codes = &column.codes[block_idx];
                        for half in 0..2 {
                            let start = extent.sums[half].wrapping_mul(-$format.offset());
                            let dot = dot(s, start, &steps, codes, half);
                            let scale = s.mul(scales, s.splat(extent.scales[half]));
                            *sum = s.mul_add(s.to_f32(dot), scale, *sum);
                        }
                        if LAYOUT.has_minimums {
                            *sum = s.mul_add(minimums, s.splat(extent.total), *sum);
                        }
                    }
                }
                sums
            }
        }
    };
}

block_weights!(Q4_0, BlockFormat::Q4_0, unpack_4_bit);
block_weights!(Q4_1, BlockFormat::Q4_1, unpack_4_bit);
block_weights!(Q8_0, BlockFormat::Q8_0, unpack_8_bit);

#[inline(always)]
fn line(block: &[u8], line_idx: usize) -> &[u8; LINE] {
    block[line_idx * LINE..]
        .first_chunk()
        .expect("a block holds its lines")
}

// These fill arrays in loops: a closure handed to `from_fn` would not be compiled for the tier.

#[inline(always)]
fn unpack_4_bit<S: Simd>(s: S, block: &[u8]) -> [S::I; GROUPS] {
    let mut steps = [s.splat_int(0); GROUPS];
    for line_idx in 0..GROUPS / 2 {
        let bytes = s.load_bytes(line(block, line_idx));
        steps[line_idx] = s.low_nibbles(bytes);
        steps[line_idx + GROUPS / 2] = s.high_nibbles(bytes);
    }
    steps
}

#[inline(always)]
fn unpack_8_bit<S: Simd>(s: S, block: &[u8]) -> [S::I; GROUPS] {
    let mut steps = [s.splat_int(0); GROUPS];
    for (line_idx, step) in steps.iter_mut().enumerate() {
        *step = s.load_bytes(line(block, line_idx));
    }
    steps
}

/// The sixteen scales of a block and, where it has them, minimums.
#[inline(always)]
fn extents<S: Simd>(s: S, layout: BlockLayout, block: &[u8]) -> (S::F, S::F) {
    let halves = |at: usize| -> &[u8; HALVES] {
        block[at..]
            .first_chunk()
            .expect("a block holds its scales and minimums")
    };
    let at = layout.n_lines * LINE;
    let scales = s.load_f16_bytes(halves(at));
    let minimums = if layout.has_minimums {
        s.load_f16_bytes(halves(at + HALVES))
    } else {
        scales
    };
    (scales, minimums)
}

/// The integer product of half a block's sixteen rows and one column.
#[inline(always)]
fn dot<S: Simd>(
    s: S,
    start: i32,
    steps: &[S::I; GROUPS],
    codes: &[i32; GROUPS],
    half: usize,
) -> S::I {
    let mut sum = s.splat_int(start);
    for group in half * GROUPS / 2..(half + 1) * GROUPS / 2 {
        sum = s.dot4(sum, steps[group], codes[group]);
    }
    sum
}
