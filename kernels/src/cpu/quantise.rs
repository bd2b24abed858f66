//! Activations as int8: blocks of 32, an f32 scale for each half of them.
//!
//! Sixteen values to a scale rather than 32 make the rounding error about a fifth smaller, and cost the
//! product one more multiplication a block: its integer sum is kept in two halves as it is.

use super::Vectors;
use crate::BLOCK_LEN;
use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, Simd};

/// Groups of four int8 in a block.
pub(crate) const GROUPS: usize = BLOCK_LEN / 4;

/// Quantised activations: value `i` of a block is `scales[i / 16] * code[i]`, |code| <= 127.
#[derive(Default)]
pub(crate) struct Columns {
    n_blocks: usize,
    /// Four codes each, little-endian; `[n_columns, n_blocks]` of [`GROUPS`].
    codes: Vec<[i32; GROUPS]>,
    /// `[n_columns, n_blocks]`.
    extents: Vec<Extent>,
}

/// Values that share a scale.
pub(crate) const HALF: usize = BLOCK_LEN / 2;

/// What else a block's product needs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extent {
    pub(crate) scales: [f32; 2],
    /// The sum of the codes of each half.
    pub(crate) sums: [i32; 2],
    /// The sum of the values that the codes stand for.
    pub(crate) total: f32,
}

/// One column: a token's activations.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) codes: &'a [[i32; GROUPS]],
    pub(crate) extents: &'a [Extent],
}

impl Columns {
    /// Quantises the rows of `x`.
    pub(crate) fn quantise(&mut self, pool: &mut Pool, vectors: Vectors, x: &Buffer) {
        self.n_blocks = x.width() / BLOCK_LEN;
        let n_blocks = self.n_blocks;
        self.codes.resize(x.n_rows() * n_blocks, [0; GROUPS]);
        self.extents
            .resize(x.n_rows() * n_blocks, Extent::default());
        let codes = SharedSlice::new(&mut self.codes);
        let extents = SharedSlice::new(&mut self.extents);
        pool.run_split(x.n_rows(), 4, |rows| {
            let blocks = rows.start * n_blocks..rows.end * n_blocks;
            let values = &x.values()[rows.start * x.width()..rows.end * x.width()];
            // SAFETY: rows are split among the threads, so nobody else has these blocks.
            let (codes, extents) =
                unsafe { (codes.part_mut(blocks.clone()), extents.part_mut(blocks)) };
            vectors.run(Quantise {
                values,
                codes,
                extents,
            });
        });
    }

    #[inline(always)]
    pub(crate) fn column(&self, column_idx: usize) -> Column<'_> {
        let range = column_idx * self.n_blocks..(column_idx + 1) * self.n_blocks;
        Column {
            codes: &self.codes[range.clone()],
            extents: &self.extents[range],
        }
    }
}

struct Quantise<'a> {
    values: &'a [f32],
    codes: &'a mut [[i32; GROUPS]],
    extents: &'a mut [Extent],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (blocks, _) = self.values.as_chunks::<BLOCK_LEN>();
        for ((block, codes), extent) in blocks.iter().zip(self.codes).zip(self.extents) {
            (*codes, *extent) = quantise_block(block);
        }
    }
}

/// Rounds a block to int8, each half's largest value to 127.
#[inline(always)]
pub(crate) fn quantise_block(block: &[f32; BLOCK_LEN]) -> ([i32; GROUPS], Extent) {
    let mut codes = [0; GROUPS];
    let mut extent = Extent::default();
    let (halves, _) = block.as_chunks::<HALF>();
    for (half_idx, (half, codes)) in halves
        .iter()
        .zip(codes.chunks_exact_mut(GROUPS / 2))
        .enumerate()
    {
        let (rounded, scale) = round_half(half);
        for (code, group) in codes.iter_mut().zip(rounded.as_chunks::<4>().0) {
            let [a, b, c, d] = group.map(|code| code & 0xff);
            *code = a | b << 8 | c << 16 | d << 24;
        }
        // Values that are no number give codes without meaning, which must not overflow the sum.
        let sum = rounded
            .iter()
            .fold(0i32, |sum, code| sum.wrapping_add(*code));
        (extent.scales[half_idx], extent.sums[half_idx]) = (scale, sum);
        extent.total += scale * sum as f32;
    }
    (codes, extent)
}

/// The values in units of the scale, rounded to the nearest and to even, and the scale.
#[inline(always)]
fn round_half(half: &[f32; HALF]) -> ([i32; HALF], f32) {
    // Adding 1.5 * 2^23 rounds to whole numbers, which are then the low bits.
    const ROUND: f32 = 12_582_912.0;
    let mut largest = half.map(f32::abs);
    for n in [8, 4, 2, 1] {
        for i in 0..n {
            if largest[i + n] > largest[i] {
                largest[i] = largest[i + n];
            }
        }
    }
    let largest = largest[0];
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // Denormal values have an infinite inverse: they count as zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let codes = half.map(|x| {
        (x * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i32
    });
    (codes, largest / 127.0)
}
