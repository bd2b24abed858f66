//! One or two columns times whole weights, on vectors: weights are multiplied in registers where they are read or found.

use std::ops::Range;

use super::super::super::matrix::whole::nibbles::{self, N_BLOCKS, N_LINES, Step};
use super::super::super::matrix::whole::{WholeFormat, bytes};
use super::super::super::quantise::split::LINE_LANES;
use super::super::{N_AHEAD, fetch};
use super::WholePair;
use crate::lines::LINE;
use crate::simd::Simd;
use crate::squares::{Unit, UnitKernel, WithUnit};

impl WholePair<'_> {
    /// Computes columns on vectors, two together.
    #[inline(always)]
    pub(super) fn each_few<U: Unit>(&self, s: U::Vectors, unit: U, columns: Range<usize>) {
        let mut column = columns.start;
        while column < columns.end {
            column += match columns.end - column {
                2.. => self.few::<U, 2>(s, unit, column),
                _ => self.few::<U, 1>(s, unit, column),
            };
        }
    }

    /// Computes `C` columns on vectors, and returns their number.
    #[inline(always)]
    fn few<U: Unit, const C: usize>(&self, s: U::Vectors, unit: U, column: usize) -> usize {
        // Kernels of their own, so that registers are allotted for each alone.
        match self.format {
            WholeFormat::Nibbles => s.run(WithUnit {
                kernel: Few::<C, true> { pair: self, column },
                vectors: s,
                unit,
            }),
            WholeFormat::Bytes => s.run(WithUnit {
                kernel: Few::<C, false> { pair: self, column },
                vectors: s,
                unit,
            }),
        }
        C
    }
}

/// A pair of nibbles or of bytes times `C` columns from `column` on.
struct Few<'a, const C: usize, const NIBBLES: bool> {
    pair: &'a WholePair<'a>,
    column: usize,
}

impl<const C: usize, const NIBBLES: bool> UnitKernel for Few<'_, C, NIBBLES> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(self, s: U::Vectors, unit: U) {
        let pair = self.pair;
        pair.expect(self.column..self.column + C);
        let sums = if NIBBLES {
            self.add_nibbles(s, unit)
        } else {
            self.add_bytes(s)
        };
        for (c, sums) in sums.into_iter().enumerate() {
            pair.finish(s, self.column + c, sums);
        }
    }
}

/// Of each column the sums of high and of low bytes, of both tiles.
type Sums<S, const C: usize> = [[[<S as Simd>::I; 2]; 2]; C];

impl<const C: usize, const NIBBLES: bool> Few<'_, C, NIBBLES> {
    /// A line of each column's planes.
    #[inline(always)]
    fn lines(&self, idx: usize) -> [[&[i32; LINE_LANES]; 2]; C] {
        let task = self.pair.task;
        let lanes = task.planes(self.column..self.column + C);
        let mut lines = [[&[0; LINE_LANES]; 2]; C];
        for (c, lines) in lines.iter_mut().enumerate() {
            for (plane, line) in lines.iter_mut().enumerate() {
                let lane = (2 * c + plane) * task.n_split + idx * LINE_LANES;
                *line = lanes[lane..].first_chunk().expect("a plane's line");
            }
        }
        lines
    }

    /// The products of a pair of four bits.
    #[inline(always)]
    fn add_nibbles<U: Unit>(&self, s: U::Vectors, unit: U) -> Sums<U::Vectors, C> {
        let mut sums = [[[s.splat_int(0); 2]; 2]; C];
        let steps = nibbles::steps(self.pair.weights());
        for (idx, step) in steps.iter().enumerate() {
            let step = Step(step);
            let inputs = self.lines(idx);
            // In which one lane is what the step's minimums are multiplied by.
            let of_steps = self.lines(steps.len() + idx / LINE_LANES);
            for block in 0..N_BLOCKS {
                fetch(step.part(block, N_BLOCKS), N_AHEAD);
                let factors = [
                    unit.factors(step.factors(block, 0)),
                    unit.factors(step.factors(block, 1)),
                ];
                for line_idx in 0..N_LINES {
                    for (t, &factors) in factors.iter().enumerate() {
                        let whole = unit.whole(step.line(block, line_idx, t), factors);
                        for (i, whole) in whole.into_iter().enumerate() {
                            let lane = 2 * N_LINES * block + line_idx + i * N_LINES;
                            add(s, &mut sums, t, whole, (&inputs, lane));
                        }
                    }
                }
            }
            for t in 0..2 {
                let minimums = s.load_bytes(step.minimums(t));
                add(s, &mut sums, t, minimums, (&of_steps, idx % LINE_LANES));
            }
        }
        sums
    }

    /// The products of a pair of eight bits.
    #[inline(always)]
    fn add_bytes<S: Simd>(&self, s: S) -> Sums<S, C> {
        let mut sums = [[[s.splat_int(0); 2]; 2]; C];
        for (idx, squares) in bytes::steps(self.pair.weights()).iter().enumerate() {
            let inputs = self.lines(idx);
            for (t, square) in squares.iter().enumerate() {
                fetch(square, N_AHEAD);
                for (lane, line) in square.as_chunks::<LINE>().0.iter().enumerate() {
                    add(s, &mut sums, t, s.load_bytes(line), (&inputs, lane));
                }
            }
        }
        sums
    }
}

/// Adds the products of a tile's weights and four inputs of each column.
#[inline(always)]
fn add<S: Simd, const C: usize>(
    s: S,
    sums: &mut Sums<S, C>,
    tile: usize,
    weights: S::I,
    (inputs, lane): (&[[&[i32; LINE_LANES]; 2]; C], usize),
) {
    for (sums, inputs) in sums.iter_mut().zip(inputs) {
        for (sums, input) in sums.iter_mut().zip(inputs) {
            sums[tile] = s.dot4(sums[tile], weights, s.splat_int(input[lane]));
        }
    }
}
