//! What a unit does, in plain loops: for tests, also on machines without one.

use super::{ByteStep, ByteSums, N_ELEMENTS, N_POSITIONS, SQUARE, Scores, Strided, Unit, Values};
use crate::cpu::whole;
use crate::lines::LINE;
use crate::simd::{LANES, Portable};

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

/// Adds products of groups of four inputs and of four weights of each row.
fn add_groups(sums: &mut [u8; LINE], inputs: &[i32], weights: &[u8; SQUARE]) {
    let (sums, _) = sums.as_chunks_mut::<4>();
    for (inputs, weights) in inputs.iter().zip(weights.as_chunks::<LINE>().0) {
        let inputs = inputs.to_le_bytes().map(u8::cast_signed);
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            let products = inputs.iter().zip(weights);
            let products = products.map(|(&x, &w)| i32::from(x) * i32::from(w));
            *sum = (i32::from_le_bytes(*sum) + products.sum::<i32>()).to_le_bytes();
        }
    }
}

impl Unit for Scalar {
    type Vectors = Portable;

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
    fn factors(self, factors: &[u8; LANES]) -> [i32; LANES] {
        factors.map(i32::from)
    }

    fn whole(self, codes: &[u8; LINE], factors: [i32; LANES]) -> [[i32; LANES]; 2] {
        let (rows, _) = codes.as_chunks::<4>();
        [0, 4].map(|shift| {
            std::array::from_fn(|row| {
                let [a, b, c, d] =
                    rows[row].map(|code| whole(factors[row] as u8, code >> shift & 15));
                i32::from_le_bytes([b, a, d, c])
            })
        })
    }

    fn store(self, vector: [i32; LANES], out: &mut [u8; LINE]) {
        for (out, lane) in out.as_chunks_mut().0.iter_mut().zip(vector) {
            *out = lane.to_le_bytes();
        }
    }

    unsafe fn begin_sums<const TOGETHER: bool>(self, sums: &mut ByteSums) {
        *sums = ByteSums::default();
    }

    unsafe fn begin_step(self, of: ByteStep<'_>, _: &mut ByteSums, sums: &mut ByteSums) {
        // SAFETY: the caller says the same.
        unsafe {
            self.begin_sums::<false>(sums);
            self.add_step::<false>(of, sums);
        }
    }

    unsafe fn add_step<const TOGETHER: bool>(self, of: ByteStep<'_>, sums: &mut ByteSums) {
        for (plane_idx, lanes) in of.planes.chunks(of.stride).enumerate() {
            let (square, line) = if TOGETHER {
                (0, plane_idx)
            } else {
                (plane_idx % 2, plane_idx / 2)
            };
            for (sums, weights) in sums.0[square].iter_mut().zip(of.weights) {
                add_groups(&mut sums[line], &lanes[..LANES], weights);
            }
        }
    }

    unsafe fn end_sums<const TOGETHER: bool>(self, _: &mut ByteSums) {}
}
