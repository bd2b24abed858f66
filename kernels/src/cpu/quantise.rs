//! Activations as int8: blocks of 32 with an f32 scale each.

use super::Vectors;
use crate::BLOCK_LEN;
use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, Simd};

/// Groups of four int8 in a block.
pub(crate) const GROUPS: usize = BLOCK_LEN / 4;

/// Quantised activations: value `i` of a block is `scale * code[i]`, |code| <= 127.
#[derive(Default)]
pub(crate) struct Columns {
    n_blocks: usize,
    /// Four codes each, little-endian; `[n_columns, n_blocks]` of [`GROUPS`].
    codes: Vec<[i32; GROUPS]>,
    /// `[n_columns, n_blocks]`.
    extents: Vec<Extent>,
}

/// What else a block's product needs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extent {
    pub(crate) scale: f32,
    /// The sum of the codes.
    pub(crate) sum: i32,
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

/// Rounds a block to int8, to the nearest and to even, its largest value to 127.
#[inline(always)]
pub(crate) fn quantise_block(block: &[f32; BLOCK_LEN]) -> ([i32; GROUPS], Extent) {
    // Adding 1.5 * 2^23 rounds to whole numbers, which are then the low bits.
    const ROUND: f32 = 12_582_912.0;
    let mut largest = [0.0f32; 8];
    for chunk in block.as_chunks::<8>().0 {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            let size = value.abs();
            *largest = if size > *largest { size } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(0.0f32, f32::max);
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // A denormal block has an infinite inverse: it counts as zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let rounded: [i32; BLOCK_LEN] = std::array::from_fn(|i| {
        (block[i] * inverse + ROUND)
            .to_bits()
            .wrapping_sub(ROUND.to_bits()) as i32
    });
    let codes = std::array::from_fn(|group| {
        let [a, b, c, d] = std::array::from_fn(|i| rounded[4 * group + i] & 0xff);
        a | b << 8 | c << 16 | d << 24
    });
    // Values that are no number give codes without meaning, which must not overflow the sum.
    let sum = rounded
        .iter()
        .fold(0i32, |sum, code| sum.wrapping_add(*code));
    (
        codes,
        Extent {
            scale: largest / 127.0,
            sum,
        },
    )
}
