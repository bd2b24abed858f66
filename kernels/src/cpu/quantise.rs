//! Activations as int8, in blocks of 32.
//!
//! A block has one f32 scale, or one for each of its halves: [`Grain`] says which. A finer grain rounds better
//! and costs the product a multiplication and an addition a block.

pub(crate) mod split;
#[cfg(test)]
mod tests;

use super::elementwise;
use crate::simd::{self, Kernel, LANES, Simd};
use crate::{BLOCK_LEN, Grain};

/// Groups of four int8 in a block.
pub(crate) const GROUPS: usize = BLOCK_LEN / 4;

/// 32 activations of one token: value `i` is `scales[i / 16] * code[i]`, |code| <= 127.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Block {
    /// Four codes each, little-endian.
    pub(crate) codes: [i32; GROUPS],
    pub(crate) scales: [f32; 2],
    /// The sums of the codes that share each scale; where all share one, the second is zero.
    pub(crate) sums: [i32; 2],
    /// The sum of the values that the codes stand for.
    pub(crate) total: f32,
}

/// Quantises one row; `blocks` are as many as it fills.
pub(crate) struct Quantise<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) grain: Grain,
    pub(crate) blocks: &'a mut [Block],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (values, _) = self.values.as_chunks::<BLOCK_LEN>();
        match self.grain {
            Grain::ThirtyTwo => each_batch::<S, 1>(s, values, self.blocks),
            Grain::Sixteen | Grain::Whole => each_batch::<S, 2>(s, values, self.blocks),
        }
    }
}

/// Quantises blocks of `H` parts with a scale each. Sixteen parts go together: then a lane is a part where scales and sums are
/// found.
#[inline(always)]
fn each_batch<S: Simd, const H: usize>(s: S, values: &[[f32; BLOCK_LEN]], blocks: &mut [Block]) {
    let n_together = LANES / H;
    for (values, blocks) in values.chunks(n_together).zip(blocks.chunks_mut(n_together)) {
        quantise_batch::<S, H>(s, values, blocks);
    }
}

/// Rounds up to sixteen parts to int8, the largest of a part to 127.
#[inline(always)]
fn quantise_batch<S: Simd, const H: usize>(
    s: S,
    values: &[[f32; BLOCK_LEN]],
    blocks: &mut [Block],
) {
    let mut sizes = [s.splat(0.0); LANES];
    for (values, sizes) in values.iter().zip(sizes.chunks_exact_mut(H)) {
        let [first, second] = halves(s, values);
        let halves = [elementwise::abs(s, first), elementwise::abs(s, second)];
        put_parts::<S, H>(halves, s.max(halves[0], halves[1]), sizes);
    }
    let mut largest = [0.0; LANES];
    s.store(s.max_of_each(sizes), &mut largest);
    let mut scales = [0.0; LANES];
    let mut inverses = [0.0; LANES];
    for ((scale, inverse), largest) in scales.iter_mut().zip(&mut inverses).zip(largest) {
        (*scale, *inverse) = scale_of(largest, 127.0);
    }
    let mut codes = [s.splat(0.0); LANES];
    let parts = codes.chunks_exact_mut(H).zip(inverses.chunks_exact(H));
    for ((values, block), (codes, inverses)) in values.iter().zip(&mut *blocks).zip(parts) {
        let [first, second] = halves(s, values);
        let (targets, _) = block.codes.as_chunks_mut::<{ GROUPS / 2 }>();
        let first = put_codes(s, first, inverses[0], &mut targets[0]);
        let second = put_codes(s, second, inverses[H - 1], &mut targets[1]);
        put_parts::<S, H>([first, second], s.add(first, second), codes);
    }
    let mut sums = [0.0; LANES];
    s.store(s.add_of_each(codes), &mut sums);
    let parts = scales.chunks_exact(H).zip(sums.chunks_exact(H));
    for (block, (scales, sums)) in blocks.iter_mut().zip(parts) {
        block.scales = [scales[0], scales[H - 1]];
        block.sums = [sums[0] as i32, if H == 1 { 0 } else { sums[1] as i32 }];
        block.total = 0.0;
        for (scale, sum) in scales.iter().zip(sums) {
            block.total += scale * sum;
        }
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, values: &[f32; BLOCK_LEN]) -> [S::F; 2] {
    let (halves, _) = values.as_chunks::<LANES>();
    [s.load(&halves[0]), s.load(&halves[1])]
}

/// Puts a vector for each of a block's `H` parts: its halves, or these `together`.
#[inline(always)]
fn put_parts<S: Simd, const H: usize>(halves: [S::F; 2], together: S::F, parts: &mut [S::F]) {
    if H == 1 {
        parts[0] = together;
    } else {
        parts.copy_from_slice(&halves);
    }
}

/// The scale that makes `largest` the code `code`, and its inverse.
#[inline(always)]
fn scale_of(largest: f32, code: f32) -> (f32, f32) {
    let inverse = if largest > 0.0 { code / largest } else { 0.0 };
    // Denormal values have an infinite inverse: they count as zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (largest / code, inverse)
}

/// Writes the values times `inverse`, rounded to the nearest and to even, and returns them: their sums are exact.
#[inline(always)]
fn put_codes<S: Simd>(s: S, values: S::F, inverse: f32, codes: &mut [i32; GROUPS / 2]) -> S::F {
    let shifted = s.mul_add(values, s.splat(inverse), s.splat(simd::ROUND));
    let bytes = s.low_bytes(s.bits(shifted));
    for (code, group) in codes.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *code = i32::from_le_bytes(*group);
    }
    s.add(shifted, s.splat(-simd::ROUND))
}
