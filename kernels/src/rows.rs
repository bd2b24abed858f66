//! Reductions of a row of logits, outside any device: what samplers ask of every token.

use crate::Tier;
use crate::cpu::run_on;
use crate::simd::{Kernel, LANES, Simd};

/// Values that are added in f32 before they go into an f64.
const BLOCK: usize = 4096;

/// The greatest number in a row; negative infinity if there is none.
#[must_use]
pub fn row_max(row: &[f32]) -> f32 {
    run_on(Tier::Avx512, Max { row })
}

/// The logarithm of the sum of exponentials of a row. What is not a number counts as nothing; infinite values have no
/// distribution and count as the greatest finite number.
#[must_use]
pub fn log_sum_exp(row: &[f32]) -> f32 {
    let max = row_max(row).clamp(f32::MIN, f32::MAX);
    let sum: f64 = row
        .chunks(BLOCK)
        .map(|row| f64::from(run_on(Tier::Avx512, SumExp { row, max })))
        .sum();
    max + sum.ln() as f32
}

struct Max<'a> {
    row: &'a [f32],
}

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (quads, rest) = self.row.as_chunks::<{ 4 * LANES }>();
        let mut lanes = [s.splat(f32::NEG_INFINITY); 4];
        for quad in quads {
            for (i, chunk) in quad.as_chunks().0.iter().enumerate() {
                // The second operand is what is kept where the first is no number.
                lanes[i] = s.max(s.load(chunk), lanes[i]);
            }
        }
        let lanes = s.max(s.max(lanes[0], lanes[1]), s.max(lanes[2], lanes[3]));
        rest.iter().fold(s.reduce_max(lanes), |max, &x| max.max(x))
    }
}

/// The sum of e^(x - max).
struct SumExp<'a> {
    row: &'a [f32],
    max: f32,
}

impl Kernel for SumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (quads, rest) = self.row.as_chunks::<{ 4 * LANES }>();
        let mut last = [f32::NEG_INFINITY; 4 * LANES];
        last[..rest.len()].copy_from_slice(rest);
        let mut sums = [s.splat(0.0); 4];
        for quad in quads.iter().chain([&last]) {
            for (i, chunk) in quad.as_chunks().0.iter().enumerate() {
                let below = s.mul_add(s.load(chunk), s.splat(-1.0), s.splat(self.max));
                // Infinity is no further above than the greatest number; what is no number stays so, and its
                // exponential is the least.
                let below = s.max(s.splat(0.0), below);
                sums[i] = s.add(sums[i], s.exp(s.mul(below, s.splat(-1.0))));
            }
        }
        s.reduce_add(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
    }
}
