//! Activations as int8, in blocks of 32.
//!
//! A block has one f32 scale, or one for each of its halves: [`Grain`] says which. A finer grain rounds better
//! and costs the product a multiplication and an addition a block.

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
        for (values, block) in values.iter().zip(self.blocks) {
            quantise_block(s, values, self.grain, block);
        }
    }
}

/// Rounds 32 values to int8, the largest of those that share a scale to 127.
#[inline(always)]
fn quantise_block<S: Simd>(s: S, values: &[f32; BLOCK_LEN], grain: Grain, block: &mut Block) {
    let (halves, _) = values.as_chunks::<LANES>();
    let halves = [s.load(&halves[0]), s.load(&halves[1])];
    let sizes = [
        elementwise::abs(s, halves[0]),
        elementwise::abs(s, halves[1]),
    ];
    let (targets, _) = block.codes.as_chunks_mut::<{ GROUPS / 2 }>();
    match grain {
        Grain::ThirtyTwo => {
            let (scale, inverse) = scale(s.reduce_max(s.max(sizes[0], sizes[1])));
            let first = put_codes(s, halves[0], inverse, &mut targets[0]);
            let second = put_codes(s, halves[1], inverse, &mut targets[1]);
            let sum = s.reduce_add(s.add(first, second));
            block.scales = [scale; 2];
            block.sums = [sum as i32, 0];
            block.total = scale * sum;
        }
        Grain::Sixteen => {
            block.total = 0.0;
            for (half_idx, codes) in targets.iter_mut().enumerate() {
                let (scale, inverse) = scale(s.reduce_max(sizes[half_idx]));
                let sum = s.reduce_add(put_codes(s, halves[half_idx], inverse, codes));
                (block.scales[half_idx], block.sums[half_idx]) = (scale, sum as i32);
                block.total += scale * sum;
            }
        }
    }
}

/// The scale that makes `largest` 127, and its inverse.
#[inline(always)]
fn scale(largest: f32) -> (f32, f32) {
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // Denormal values have an infinite inverse: they count as zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    (largest / 127.0, inverse)
}

/// Writes the values times `inverse`, rounded to the nearest and to even, and returns them: their sums are exact.
#[inline(always)]
fn put_codes<S: Simd>(s: S, values: S::F, inverse: f32, codes: &mut [i32; GROUPS / 2]) -> S::F {
    let shifted = s.mul_add(values, s.splat(inverse), s.splat(simd::ROUND));
    let bytes = s.low_bytes(s.sub_bits(shifted, s.splat(simd::ROUND)));
    for (code, group) in codes.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *code = i32::from_le_bytes(*group);
    }
    s.add(shifted, s.splat(-simd::ROUND))
}
