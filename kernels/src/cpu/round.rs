//! Numbers as bf16 in pairs, for products that take two at a time: activations and weights here, and in attention what is
//! stored and what it is multiplied by.
//!
//! A number has eight bits. If those of both sides are zero or at least 2^-56 in size, they are whole multiples of 2^-63, every
//! product is one of 2^-126, the least normal number, and so is every sum: none is ever denormal. Then the machine's product of
//! pairs, which gives zero for denormals, is two fused multiply-adds and nothing else, and machines without it compute as much.

use half::bf16;

use crate::kv::KvElement;
use crate::simd::{Kernel, LEAST_EXPONENT, Simd};

/// The bits of 2^-56, the least number that is not zero.
pub(crate) const LEAST: u16 = ((127 + LEAST_EXPONENT) as u16) << 7;

/// A bf16's bits, or zero in place of what is below 2^-56.
#[inline(always)]
pub(crate) fn without_tiny(bits: u16) -> u16 {
    if bits & 0x7fff < LEAST { 0 } else { bits }
}

/// Lanes of 32 bits that `n` numbers fill, two each.
pub(crate) const fn n_lanes(n: usize) -> usize {
    n.div_ceil(2)
}

/// Rounds one row as keys and values are rounded: even elements in the low halves of lanes. An odd row ends with a zero.
pub(crate) struct Round<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) lanes: &'a mut [i32],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (pairs, rest) = self.values.as_chunks();
        for (lane, &pair) in self.lanes.iter_mut().zip(pairs) {
            *lane = rounded(pair);
        }
        if let (&[value], Some(lane)) = (rest, self.lanes.last_mut()) {
            *lane = rounded([value, 0.0]);
        }
    }
}

#[inline(always)]
fn rounded(pair: [f32; 2]) -> i32 {
    let [low, high] = pair.map(|x| u32::from(bf16::round(x, 1.0).to_bits()));
    (low | high << 16).cast_signed()
}
