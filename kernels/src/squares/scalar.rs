//! What a unit does, in plain loops: for tests, also on machines without one.

use super::{N_ELEMENTS, N_POSITIONS, Scores, Strided, Unit, Values};
use crate::simd::LANES;

/// A unit that any machine has.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl<T: Copy> Strided<T> {
    /// # Safety
    /// There is such a number.
    unsafe fn at(self, line: usize, idx: usize) -> *mut T {
        // SAFETY: the caller says so.
        unsafe { self.start.byte_add(line * self.stride).add(idx) }
    }
}

/// `sum` with a product of pairs.
fn add_products(sum: f32, pairs: impl Iterator<Item = (i32, i32)>) -> f32 {
    let first = |pair: i32| f32::from_bits(pair.cast_unsigned() << 16);
    let second = |pair: i32| f32::from_bits(pair.cast_unsigned() & 0xffff_0000);
    let (mut firsts, mut seconds) = (0.0f32, 0.0f32);
    for (a, b) in pairs {
        // A product of two numbers of eight bits is exact: this is fused.
        firsts += first(a) * first(b);
        seconds += second(a) * second(b);
    }
    sum + (firsts + seconds)
}

impl Unit for Scalar {
    unsafe fn add_scores(self, of: Scores<'_>) {
        let (queries, scores) = (of.queries, of.scores);
        for (vector_idx, &keys) in of.keys.iter().enumerate() {
            let keys = Strided {
                start: keys.cast_mut().cast::<i32>(),
                stride: of.key_stride,
            };
            for (row, column) in (0..LANES).flat_map(|i| (0..LANES).map(move |j| (i, j))) {
                // SAFETY: the caller says so.
                unsafe {
                    let score = scores.at(row, vector_idx * N_POSITIONS + column);
                    let start = if of.are_first { 0.0 } else { *score };
                    *score = (0..2).fold(start, |sum, square| {
                        let pairs = square * LANES..(square + 1) * LANES;
                        add_products(
                            sum,
                            pairs.map(|pair| (*queries.at(row, pair), *keys.at(pair, column))),
                        )
                    });
                }
            }
        }
    }

    unsafe fn add_values(self, of: Values<'_>) {
        const N_LINES: usize = N_POSITIONS / 2;
        let (weights, sums) = (of.weights, of.sums);
        for (vector_idx, &values) in of.values.iter().enumerate() {
            let values = Strided {
                start: values.cast_mut().cast::<i32>(),
                stride: of.value_stride,
            };
            for (row, column) in (0..LANES).flat_map(|i| (0..N_ELEMENTS).map(move |j| (i, j))) {
                // SAFETY: the caller says so.
                unsafe {
                    let sum = sums.at(row, column);
                    let pairs = (0..N_LINES).map(|line| {
                        let weight = *weights.at(row, vector_idx * N_LINES + line);
                        (weight, *values.at(line, column))
                    });
                    *sum = add_products(*sum, pairs);
                }
            }
        }
    }
}
