//! How attention multiplies keys and values, by the numbers that they are stored as.
//!
//! *Factors* are what a key is multiplied by, a query's elements, and what values are multiplied by, their weights. They
//! lie in lanes of 32 bits, each what a product takes together: two bf16, two whole numbers of 16 bits, or an f32.
//!
//! - bf16: sums are f32, and factors are rounded to bf16.
//! - f32: nothing is rounded.
//! - Codes of eight bits: factors are whole numbers of 16 bits in units of their greatest, a query's or a stride's, so that
//!   sums are exact. A key's scale multiplies its score, a value's its weight before that is rounded.

use half::bf16;

use super::{ItemKernel, greatest};
use crate::cpu::Vectors;
use crate::kv::KvElement;
use crate::simd::{LANES, ROUND, Simd};

/// The greatest factor of a code.
const GREATEST_FACTOR: f32 = 32_767.0;

/// The most elements of a head, and the most tokens of a page, whose sums of products of codes fit 31 bits:
/// `512 * 127 * 32,767` is the greatest. Few positions a stride also keep the small weights beside the greatest.
pub(crate) const CODES_LIMITS: [usize; 2] = [512, 256];

/// A number that keys and values are stored as, and attention over it.
pub(crate) trait Element: KvElement {
    /// Whether a unit for squares multiplies these, if there are many.
    const ARE_SQUARES: bool = false;

    /// A vector of stored numbers or of factors.
    type Factors<S: Simd>: Copy;
    /// Sixteen sums of products.
    type Sums<S: Simd>: Copy;

    /// Writes the factors of `head * scale` into the first lanes; gives what they are to be multiplied by.
    fn round_query<S: Simd>(s: S, head: &[f32], scale: f32, lanes: &mut [i32]) -> f32;

    fn no_factors<S: Simd>(s: S) -> Self::Factors<S>;
    /// The first sixteen lanes of a line of stored numbers.
    fn load<S: Simd>(s: S, line: &[Self]) -> Self::Factors<S>;
    /// A lane of factors in every lane.
    fn splat<S: Simd>(s: S, lane: i32) -> Self::Factors<S>;
    /// The first of the numbers in every lane, and zeros.
    fn first_alone<S: Simd>(s: S, numbers: Self::Factors<S>) -> Self::Factors<S>;

    fn no_sums<S: Simd>(s: S) -> Self::Sums<S>;
    fn add_products<S: Simd>(
        s: S,
        sums: Self::Sums<S>,
        numbers: Self::Factors<S>,
        factors: Self::Factors<S>,
    ) -> Self::Sums<S>;

    /// Sums of which each chain of products is done, where there are such.
    #[inline(always)]
    fn end_chains<S: Simd>(_: S, sums: Self::Sums<S>) -> Self::Sums<S> {
        sums
    }

    /// Scores, of a query's scale and those of the keys.
    fn scores<S: Simd>(s: S, sums: Self::Sums<S>, query_scale: f32, key_scales: &[f32]) -> S::F;

    /// Sums that are added to what there is so far.
    fn begin<S: Simd>(s: S, so_far: S::F) -> Self::Sums<S>;
    /// What there is then.
    fn end<S: Simd>(s: S, sums: Self::Sums<S>, so_far: S::F, weight_scale: f32) -> S::F;

    /// Runs a kernel; the thread's unit, if these are squares, is set up.
    fn run(vectors: Vectors, kernel: ItemKernel<'_, Self>) {
        vectors.run(kernel);
    }

    /// Writes the factors of a vector of weights, where values have no scales.
    fn round_weights<S: Simd>(s: S, weights: S::F, lanes: &mut [i32]);
    /// Writes the factors of a stride's weights, already multiplied by the scales of their values; gives what they are to be
    /// multiplied by.
    fn round_scaled_weights<S: Simd>(s: S, weights: &[[f32; LANES]], lanes: &mut [i32]) -> f32;
}

impl Element for bf16 {
    type Factors<S: Simd> = S::I;
    type Sums<S: Simd> = S::F;

    #[inline(always)]
    fn round_query<S: Simd>(_: S, head: &[f32], scale: f32, lanes: &mut [i32]) -> f32 {
        for (half, x) in halves_mut(lanes).iter_mut().zip(head) {
            *half = bf16::round(x * scale, 1.0).to_bits();
        }
        1.0
    }

    #[inline(always)]
    fn no_factors<S: Simd>(s: S) -> S::I {
        s.splat_int(0)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, line: &[Self]) -> S::I {
        let pairs: &[bf16; 2 * LANES] = line.first_chunk().expect("lines are whole vectors");
        // SAFETY: a bf16 is two bytes without padding, so these are 64 bytes.
        s.load_bytes(unsafe { &*std::ptr::from_ref(pairs).cast::<[u8; 4 * LANES]>() })
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, lane: i32) -> S::I {
        s.splat_int(lane)
    }
    #[inline(always)]
    fn first_alone<S: Simd>(s: S, numbers: S::I) -> S::I {
        s.low_halves(numbers)
    }

    #[inline(always)]
    fn no_sums<S: Simd>(s: S) -> S::F {
        s.splat(0.0)
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: S::F, numbers: S::I, factors: S::I) -> S::F {
        s.dot2(sums, numbers, factors)
    }
    #[inline(always)]
    fn scores<S: Simd>(_: S, sums: S::F, _: f32, _: &[f32]) -> S::F {
        sums
    }
    #[inline(always)]
    fn begin<S: Simd>(_: S, so_far: S::F) -> S::F {
        so_far
    }
    #[inline(always)]
    fn end<S: Simd>(_: S, sums: S::F, _: S::F, _: f32) -> S::F {
        sums
    }

    #[inline(always)]
    fn round_weights<S: Simd>(s: S, weights: S::F, lanes: &mut [i32]) {
        // None is as small as `without_tiny` takes for nothing: `exp2` has.
        let (halves, _) = halves_mut(lanes).as_chunks_mut();
        halves[0] = s.to_bf16(weights);
    }
    #[inline(always)]
    fn round_scaled_weights<S: Simd>(_: S, _: &[[f32; LANES]], _: &mut [i32]) -> f32 {
        unreachable!("bf16 has no scales")
    }
}

impl Element for f32 {
    type Factors<S: Simd> = S::F;
    type Sums<S: Simd> = S::F;

    #[inline(always)]
    fn round_query<S: Simd>(_: S, head: &[f32], scale: f32, lanes: &mut [i32]) -> f32 {
        for (lane, x) in lanes.iter_mut().zip(head) {
            *lane = (x * scale).to_bits().cast_signed();
        }
        1.0
    }

    #[inline(always)]
    fn no_factors<S: Simd>(s: S) -> S::F {
        s.splat(0.0)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, line: &[Self]) -> S::F {
        s.load(line.first_chunk().expect("lines are whole vectors"))
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, lane: i32) -> S::F {
        s.splat(f32::from_bits(lane.cast_unsigned()))
    }
    #[inline(always)]
    fn first_alone<S: Simd>(_: S, numbers: S::F) -> S::F {
        numbers
    }

    #[inline(always)]
    fn no_sums<S: Simd>(s: S) -> S::F {
        s.splat(0.0)
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: S::F, numbers: S::F, factors: S::F) -> S::F {
        s.mul_add(numbers, factors, sums)
    }
    #[inline(always)]
    fn scores<S: Simd>(_: S, sums: S::F, _: f32, _: &[f32]) -> S::F {
        sums
    }
    #[inline(always)]
    fn begin<S: Simd>(_: S, so_far: S::F) -> S::F {
        so_far
    }
    #[inline(always)]
    fn end<S: Simd>(_: S, sums: S::F, _: S::F, _: f32) -> S::F {
        sums
    }

    #[inline(always)]
    fn round_weights<S: Simd>(s: S, weights: S::F, lanes: &mut [i32]) {
        let lanes: &mut [i32; LANES] = lanes.first_chunk_mut().expect("a vector of weights");
        let mut numbers = [0.0; LANES];
        s.store(weights, &mut numbers);
        *lanes = numbers.map(|number| number.to_bits().cast_signed());
    }
    #[inline(always)]
    fn round_scaled_weights<S: Simd>(_: S, _: &[[f32; LANES]], _: &mut [i32]) -> f32 {
        unreachable!("f32 has no scales")
    }
}

impl Element for i8 {
    type Factors<S: Simd> = S::I;
    type Sums<S: Simd> = S::I;

    #[inline(always)]
    fn round_query<S: Simd>(s: S, head: &[f32], scale: f32, lanes: &mut [i32]) -> f32 {
        let (vectors, _) = head.as_chunks::<LANES>();
        let (sign, zero) = (s.splat(-1.0), s.splat(0.0));
        let (mut sizes, mut zeros) = (zero, zero);
        for vector in vectors {
            let vector = s.load(vector);
            sizes = s.max(sizes, s.max(vector, s.mul(vector, sign)));
            // What is no number stays none.
            zeros = s.mul_add(vector, zero, zeros);
        }
        let (unit, inverse) = unit_of(s.reduce_max(sizes));
        put_factors(s, vectors, inverse, lanes);
        unit * scale + s.reduce_add(zeros)
    }

    #[inline(always)]
    fn no_factors<S: Simd>(s: S) -> S::I {
        s.splat_int(0)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, line: &[Self]) -> S::I {
        s.load_signed_bytes(line.first_chunk().expect("lines are whole vectors"))
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, lane: i32) -> S::I {
        s.splat_int(lane)
    }
    #[inline(always)]
    fn first_alone<S: Simd>(s: S, numbers: S::I) -> S::I {
        s.low_halves(numbers)
    }

    #[inline(always)]
    fn no_sums<S: Simd>(s: S) -> S::I {
        s.splat_int(0)
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: S::I, numbers: S::I, factors: S::I) -> S::I {
        s.dot2_int(sums, numbers, factors)
    }
    #[inline(always)]
    fn scores<S: Simd>(s: S, sums: S::I, query_scale: f32, key_scales: &[f32]) -> S::F {
        let key_scales = key_scales.first_chunk().expect("as many as keys");
        let scales = s.mul(s.load(key_scales), s.splat(query_scale));
        s.mul(s.to_f32(sums), scales)
    }
    #[inline(always)]
    fn begin<S: Simd>(s: S, _: S::F) -> S::I {
        s.splat_int(0)
    }
    #[inline(always)]
    fn end<S: Simd>(s: S, sums: S::I, so_far: S::F, weight_scale: f32) -> S::F {
        s.mul_add(s.to_f32(sums), s.splat(weight_scale), so_far)
    }

    #[inline(always)]
    fn round_weights<S: Simd>(_: S, _: S::F, _: &mut [i32]) {
        unreachable!("codes have scales")
    }
    #[inline(always)]
    fn round_scaled_weights<S: Simd>(s: S, weights: &[[f32; LANES]], lanes: &mut [i32]) -> f32 {
        let (unit, inverse) = unit_of(greatest(s, weights));
        put_factors(s, weights, inverse, lanes);
        unit
    }
}

/// The pairs that lie in lanes, one after another.
#[inline(always)]
fn halves_mut(lanes: &mut [i32]) -> &mut [u16] {
    // SAFETY: an i32 is two u16 without padding and aligned for them; any bits are both.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), 2 * lanes.len()) }
}

/// The unit in which `largest` is the greatest factor, and its inverse; none of what is too small to have one.
#[inline(always)]
fn unit_of(largest: f32) -> (f32, f32) {
    if largest > f32::MIN_POSITIVE * GREATEST_FACTOR {
        (largest / GREATEST_FACTOR, GREATEST_FACTOR / largest)
    } else {
        (0.0, 0.0)
    }
}

/// Writes the factors of numbers, in pairs.
#[inline(always)]
fn put_factors<S: Simd>(s: S, numbers: &[[f32; LANES]], inverse: f32, lanes: &mut [i32]) {
    let (inverse, shift) = (s.splat(inverse), s.splat(ROUND));
    let (lanes, _) = lanes.as_chunks_mut::<{ LANES / 2 }>();
    for (vector, lanes) in numbers.iter().zip(lanes) {
        let mut shifted = [0.0; LANES];
        s.store(s.mul_add(s.load(vector), inverse, shift), &mut shifted);
        for (lane, pair) in lanes.iter_mut().zip(shifted.as_chunks::<2>().0) {
            // The nearest whole numbers are in the low bits.
            let [low, high] = pair.map(f32::to_bits);
            *lane = (low & 0xffff | high << 16).cast_signed();
        }
    }
}
