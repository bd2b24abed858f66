//! Activations as int8, in blocks of 32.
//!
//! A block has one f32 scale, or one for each of its halves: [`Grain`] says which. A finer grain rounds better
//! and costs the product a multiplication and an addition a block.

use super::elementwise;
use crate::simd::{Kernel, LANES, Simd};
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
    /// The sum of the codes of each half.
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
    let largest = match grain {
        Grain::Sixteen => [s.reduce_max(sizes[0]), s.reduce_max(sizes[1])],
        Grain::ThirtyTwo => [s.reduce_max(s.max(sizes[0], sizes[1])); 2],
    };
    block.total = 0.0;
    let (targets, _) = block.codes.as_chunks_mut::<{ GROUPS / 2 }>();
    for (half_idx, codes) in targets.iter_mut().enumerate() {
        let rounded = round_half(s, halves[half_idx], largest[half_idx]);
        let bytes = s.low_bytes(rounded);
        for (code, group) in codes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *code = i32::from_le_bytes(*group);
        }
        // Values that are no number give codes without meaning, which must not overflow the sum.
        let (sum, scale) = (s.reduce_add_int(rounded), largest[half_idx] / 127.0);
        (block.scales[half_idx], block.sums[half_idx]) = (scale, sum);
        block.total += scale * sum as f32;
    }
}

/// The values in units of `largest / 127`, rounded to the nearest and to even.
#[inline(always)]
fn round_half<S: Simd>(s: S, values: S::F, largest: f32) -> S::I {
    // Adding 1.5 * 2^23 rounds to whole numbers, which are then the low bits.
    const ROUND: f32 = 12_582_912.0;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // Denormal values have an infinite inverse: they count as zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let round = s.splat(ROUND);
    let shifted = s.mul_add(values, s.splat(inverse), round);
    s.sub_bits(shifted, round)
}
