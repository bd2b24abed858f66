//! Attention over bf16 in the order of a unit for squares (see [`crate::squares`]), also where queries are too few to use one:
//! a unit takes as long for one as for sixteen.

use half::bf16;

use super::{Element, ItemKernel};
use crate::cpu::Vectors;
use crate::kv::Squared;
use crate::simd::{LANES, Simd};

/// A sum, and the chains of products that will be added to it: those of first numbers of pairs and of second ones.
#[derive(Clone, Copy)]
pub(crate) struct Chains<S: Simd> {
    sum: S::F,
    chains: [S::F; 2],
}

impl<S: Simd> Chains<S> {
    #[inline(always)]
    fn new(s: S, sum: S::F) -> Self {
        Self {
            sum,
            chains: [s.splat(0.0); 2],
        }
    }
}

impl Element for Squared {
    const ARE_SQUARES: bool = true;

    type Factors<S: Simd> = S::I;
    type Sums<S: Simd> = Chains<S>;

    fn run(vectors: Vectors, kernel: ItemKernel<'_, Self>) {
        vectors.run_with_unit(kernel);
    }

    #[inline(always)]
    fn round_query<S: Simd>(s: S, head: &[f32], scale: f32, lanes: &mut [i32]) -> f32 {
        bf16::round_query(s, head, scale, lanes)
    }

    #[inline(always)]
    fn no_factors<S: Simd>(s: S) -> S::I {
        bf16::no_factors(s)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, line: &[Self]) -> S::I {
        bf16::load(s, Self::as_bf16(line))
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, lane: i32) -> S::I {
        s.splat_int(lane)
    }
    #[inline(always)]
    fn first_alone<S: Simd>(s: S, numbers: S::I) -> S::I {
        bf16::first_alone(s, numbers)
    }

    #[inline(always)]
    fn no_sums<S: Simd>(s: S) -> Chains<S> {
        Chains::new(s, s.splat(0.0))
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: Chains<S>, numbers: S::I, factors: S::I) -> Chains<S> {
        Chains {
            chains: s.dot2_apart(sums.chains, numbers, factors),
            ..sums
        }
    }
    #[inline(always)]
    fn end_chains<S: Simd>(s: S, sums: Chains<S>) -> Chains<S> {
        let [firsts, seconds] = sums.chains;
        Chains::new(s, s.add(sums.sum, s.add(firsts, seconds)))
    }
    #[inline(always)]
    fn scores<S: Simd>(_: S, sums: Chains<S>, _: f32, _: &[f32]) -> S::F {
        sums.sum
    }
    #[inline(always)]
    fn begin<S: Simd>(s: S, so_far: S::F) -> Chains<S> {
        Chains::new(s, so_far)
    }
    #[inline(always)]
    fn end<S: Simd>(_: S, sums: Chains<S>, _: S::F, _: f32) -> S::F {
        sums.sum
    }

    #[inline(always)]
    fn round_weights<S: Simd>(s: S, weights: S::F, lanes: &mut [i32]) {
        bf16::round_weights(s, weights, lanes);
    }
    #[inline(always)]
    fn round_scaled_weights<S: Simd>(s: S, weights: &[[f32; LANES]], lanes: &mut [i32]) -> f32 {
        bf16::round_scaled_weights(s, weights, lanes)
    }
}
