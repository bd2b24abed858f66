//! Whole weights of eight bits: squares as a unit wants them, in which nothing is left to find.
//!
//! A row's base is its least weight, and its unit a 255th of what lies between that and the greatest: a weight is off by half a
//! unit at most. A step is a square of each tile.

use super::{STEP_LEN, Scales, in_units, put_scales};
use crate::BlockFormat;
use crate::lines::LINE;
use crate::squares::SQUARE;

/// Bytes of a step of a pair.
pub(crate) const STEP_BYTES: usize = 2 * SQUARE;

/// The steps of a pair: a square of each tile.
#[inline(always)]
pub(crate) fn steps(pair: &[u8]) -> &[[[u8; SQUARE]; 2]] {
    pair.as_chunks().0.as_chunks().0
}

/// Where four inputs of a row lie: the step and the byte of its square.
const fn group_at(group: usize, row: usize) -> (usize, usize) {
    const N_GROUPS: usize = STEP_LEN / 4;
    (group / N_GROUPS, group % N_GROUPS * LINE + 4 * row)
}

/// See [`super::WholeFormat::put`].
pub(super) fn put(
    pair: &mut [u8],
    (which, row): (usize, usize),
    format: BlockFormat,
    blocks: &[u8],
) {
    let mut weights = Vec::with_capacity(blocks.len());
    format.dequantise(blocks, &mut weights);
    let base = weights.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let unit = (greatest - base) / f32::from(u8::MAX);
    put_scales(pair, (which, row), [unit, base]);
    let (squares, _) = pair.as_chunks_mut::<SQUARE>();
    for (group, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
        let (step, at) = group_at(group, row);
        let whole = weights.map(|weight| in_units(weight - base, unit) as u8);
        squares[2 * step + which][at..at + 4].copy_from_slice(&whole);
    }
}

/// See [`super::WholeFormat::read`].
pub(super) fn read(pair: &[u8], (which, row): (usize, usize), out: &mut [f32]) {
    let [unit, base] = Scales::of(pair).of_row((which, row));
    let steps = steps(pair);
    for (group, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let (step, at) = group_at(group, row);
        let whole = &steps[step][which][at..at + 4];
        for (out, &whole) in out.iter_mut().zip(whole) {
            *out = base + unit * f32::from(whole);
        }
    }
}
