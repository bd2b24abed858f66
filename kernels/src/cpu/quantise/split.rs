//! Activations as whole numbers of sixteen bits in two planes of bytes, for products with whole weights (see `matrix::whole`).
//!
//! A column has one scale. A value is `256 * high + low` of it, both signed bytes, so that the sums over each plane are
//! products of bytes. Behind the values come the sums of blocks, as what minimums are multiplied by: of each block, whose minimum has a
//! byte of units and one of 256ths, its sum and a 256th of it, rounded, which is its high byte.
//!
//! A plane is a run of lines of 64 bytes, one for each step of 64 inputs and one for the sums of sixteen steps, and a line that is not used where
//! there would be an even number: so that planes, of which sixteen are loaded side by side, lie in sets of their own of the nearest
//! cache. A column's planes, and those of the next column, lie one behind the other.

use super::super::elementwise;
use super::super::matrix::whole::STEP_LEN;
use super::super::matrix::whole::nibbles::N_BLOCKS;
use crate::BLOCK_LEN;
use crate::simd::{Kernel, LANES, ROUND, Simd};

/// Lanes of a step's line of a plane: four bytes each.
pub(crate) const LINE_LANES: usize = STEP_LEN / 4;
/// The greatest value, of which no high byte exceeds 127.
const LARGEST: f32 = 32_639.0;
/// The same of the sum of a block before its values are rounded.
const LARGEST_SUM: f32 = LARGEST - BLOCK_LEN as f32;

/// Lines for the sums of so many steps.
pub(crate) const fn n_sum_lines(n_steps: usize) -> usize {
    n_steps.div_ceil(LINE_LANES)
}

/// Lanes of a plane.
pub(crate) const fn n_lanes(n_cols: usize) -> usize {
    let n_steps = n_cols / STEP_LEN;
    ((n_steps + n_sum_lines(n_steps)) | 1) * LINE_LANES
}

/// What the products of a column are scaled by, and the sum of its values in units of that.
#[derive(Clone, Copy, Default)]
pub(crate) struct Whole {
    pub(crate) scale: f32,
    pub(crate) sum: f32,
}

/// Splits one column.
pub(crate) struct Split<'a> {
    pub(crate) values: &'a [f32],
    /// Two planes of [`n_lanes`].
    pub(crate) lanes: &'a mut [i32],
    pub(crate) whole: &'a mut Whole,
}

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (blocks, _) = self.values.as_chunks::<BLOCK_LEN>();
        let (scale, inverse) = super::scale_of(largest(s, blocks), LARGEST);
        let (high, low) = self.lanes.split_at_mut(self.lanes.len() / 2);
        let ((high, high_sums), (low, low_sums)) = (
            high.split_at_mut(self.values.len() / 4),
            low.split_at_mut(self.values.len() / 4),
        );
        let (high, low) = (high.as_chunks_mut().0, low.as_chunks_mut().0);
        let mut targets = high.iter_mut().zip(low);
        let mut total = s.splat(0.0);
        high_sums.fill(0);
        low_sums.fill(0);
        let (high_sums, low_sums) = (
            high_sums.chunks_mut(LANES / N_BLOCKS),
            low_sums.chunks_mut(LANES / N_BLOCKS),
        );
        let batches = blocks.chunks(LANES).zip(high_sums.zip(low_sums));
        for (blocks, (high_sums, low_sums)) in batches {
            let mut sums = [s.splat(0.0); LANES];
            for (block, sum) in blocks.iter().zip(&mut sums) {
                for values in block.as_chunks().0 {
                    let (high, low) = targets.next().expect("a plane has room for all values");
                    let shifted = s.mul_add(s.load(values), s.splat(inverse), s.splat(ROUND));
                    let (whole, bytes) = split(s, shifted);
                    put(bytes, [high, low]);
                    *sum = s.add(*sum, whole);
                }
            }
            let sums = s.add_of_each(sums);
            total = s.add(total, sums);
            let (_, [of_high, of_low]) = split(s, s.add(sums, s.splat(ROUND)));
            let of_steps = of_high.as_chunks().0.iter().zip(of_low.as_chunks().0);
            let targets = high_sums.iter_mut().zip(low_sums);
            for ((high, low), (&[a, b], &[c, d])) in targets.zip(of_steps) {
                *high = i32::from_le_bytes([a, 0, b, 0]);
                *low = i32::from_le_bytes([c, a, d, b]);
            }
        }
        *self.whole = Whole {
            scale,
            sum: s.reduce_add(total),
        };
    }
}

/// The greatest of a column's values and, on their scale, of the sums of its blocks.
#[inline(always)]
fn largest<S: Simd>(s: S, blocks: &[[f32; BLOCK_LEN]]) -> f32 {
    let (mut sizes, mut sums_sizes) = (s.splat(0.0), s.splat(0.0));
    for blocks in blocks.chunks(LANES) {
        let mut sums = [s.splat(0.0); LANES];
        for (block, sum) in blocks.iter().zip(&mut sums) {
            for values in block.as_chunks().0 {
                let values = s.load(values);
                sizes = s.max(elementwise::abs(s, values), sizes);
                *sum = s.add(*sum, values);
            }
        }
        sums_sizes = s.max(elementwise::abs(s, s.add_of_each(sums)), sums_sizes);
    }
    let sum = s.reduce_max(sums_sizes) * (LARGEST / LARGEST_SUM);
    sum.max(s.reduce_max(sizes))
}

/// The whole numbers that are left of what [`ROUND`] was added to, and their high and low bytes.
#[inline(always)]
fn split<S: Simd>(s: S, shifted: S::F) -> (S::F, [[u8; LANES]; 2]) {
    let whole = s.add(shifted, s.splat(-ROUND));
    // Halfway between two high bytes the low one must be -128, so that no number is halfway.
    let past_half = s.add(whole, s.splat(0.5));
    let high = s.mul_add(past_half, s.splat(1.0 / 256.0), s.splat(ROUND));
    let (high, low) = (s.low_bytes(s.bits(high)), s.low_bytes(s.bits(shifted)));
    (whole, [high, low])
}

/// Puts bytes into lanes.
#[inline(always)]
fn put(bytes: [[u8; LANES]; 2], lanes: [&mut [i32; LANES / 4]; 2]) {
    for (bytes, lanes) in bytes.into_iter().zip(lanes) {
        for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
            *lane = i32::from_le_bytes(*bytes);
        }
    }
}
