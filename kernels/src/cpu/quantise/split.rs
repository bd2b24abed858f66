//! Activations as whole numbers of sixteen bits in two planes of bytes, for products with whole weights (see `matrix::whole`).
//!
//! A column has one scale. A value is `256 * high + low` of it, both signed bytes, so that the sums over each plane are
//! products of bytes. A plane is a run of lines of 64 bytes, one for each step of 64 inputs, and a line that is not used where there
//! would be an even number: so that planes, of which sixteen are loaded side by side, lie in sets of their own of the nearest
//! cache. A column's planes, and those of the next column, lie one behind the other.

use super::super::elementwise;
use super::super::matrix::whole::STEP_LEN;
use crate::BLOCK_LEN;
use crate::simd::{self, Kernel, LANES, Simd};

/// Lanes of a step's line of a plane: four bytes each.
pub(crate) const LINE_LANES: usize = STEP_LEN / 4;
/// The greatest value: then no high byte exceeds 127.
const LARGEST: f32 = 32_639.0;

/// Lanes of a plane.
pub(crate) const fn n_lanes(n_cols: usize) -> usize {
    ((n_cols / STEP_LEN) | 1) * LINE_LANES
}

/// Sums of a column's blocks, and its scale behind them.
pub(crate) const fn n_totals(n_cols: usize) -> usize {
    n_cols / BLOCK_LEN + 1
}

/// Splits one column.
pub(crate) struct Split<'a> {
    pub(crate) values: &'a [f32],
    /// Two planes of [`n_lanes`].
    pub(crate) lanes: &'a mut [i32],
    /// [`n_totals`] of them.
    pub(crate) totals: &'a mut [f32],
}

impl Kernel for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (vectors, _) = self.values.as_chunks::<LANES>();
        let mut sizes = s.splat(0.0);
        for values in vectors {
            sizes = s.max(elementwise::abs(s, s.load(values)), sizes);
        }
        let (scale, inverse) = super::scale_of(s.reduce_max(sizes), LARGEST);
        let (high, low) = self.lanes.split_at_mut(self.lanes.len() / 2);
        let (high, low) = (high.as_chunks_mut().0, low.as_chunks_mut().0);
        let mut targets = high.iter_mut().zip(low);
        let (blocks, rest) = vectors.as_chunks::<{ BLOCK_LEN / LANES }>();
        for (block, total) in blocks.iter().zip(&mut *self.totals) {
            let mut sums = s.splat(0.0);
            for values in block {
                let targets = targets.next().expect("a plane has room for all values");
                let whole = put(s, s.load(values), inverse, targets);
                sums = s.add(sums, whole);
            }
            *total = s.reduce_add(sums);
        }
        debug_assert!(rest.is_empty(), "whole blocks");
        self.totals[blocks.len()] = scale;
    }
}

/// Writes both bytes of the whole numbers nearest to values times `inverse`, and returns those numbers.
#[inline(always)]
fn put<S: Simd>(
    s: S,
    values: S::F,
    inverse: f32,
    (high, low): (&mut [i32; LANES / 4], &mut [i32; LANES / 4]),
) -> S::F {
    let round = s.splat(simd::ROUND);
    let back = s.splat(-simd::ROUND);
    let whole = s.add(s.mul_add(values, s.splat(inverse), round), back);
    // Halfway between two high bytes the low one must be -128, so that no number is halfway.
    let past_half = s.add(whole, s.splat(0.5));
    let shifted = s.mul_add(past_half, s.splat(1.0 / 256.0), round);
    let rest = s.mul_add(s.add(shifted, back), s.splat(-256.0), whole);
    put_bytes(s, shifted, high);
    put_bytes(s, s.add(rest, round), low);
    whole
}

/// Writes the low bytes of whole numbers, to which [`simd::ROUND`] has been added.
#[inline(always)]
fn put_bytes<S: Simd>(s: S, shifted: S::F, lanes: &mut [i32; LANES / 4]) {
    let bytes = s.low_bytes(s.sub_bits(shifted, s.splat(simd::ROUND)));
    for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
        *lane = i32::from_le_bytes(*bytes);
    }
}
