//! Products of whole weights (see `matrix::whole`): sums of bytes over all inputs, on vectors or on a unit for squares.
//!
//! An output is `scale * (unit * (256 * high + low) + the sum of minimums times totals)`. Sums of whole numbers are exact in any
//! order, and blocks are taken in ascending order. So a column has the same bits alone as among others.
//!
//! To find the whole weights of a pair takes longer than to multiply them by sixteen columns. One or two columns multiply them
//! where they are found, in registers. For up to sixteen, weights are found one step ahead of the unit: it would wait for
//! what is still on its way to the cache. For more, all weights of a pair are found first.

use std::ops::Range;

use super::super::matrix::whole::{N_BLOCKS, N_LINES, Step, parts};
use super::super::quantise::split::LINE_LANES;
use super::{N_AHEAD, Task, TilePair, Upcoming, fetch};
use crate::aligned::Aligned;
use crate::lines::LINE;
use crate::simd::{Kernel, LANES, Simd};
use crate::squares::{ByteSums, SQUARE, SetUp, Steps, Unit, UnitKernel, WithUnit, are_together};

/// Columns from which on the unit is faster than vectors.
const N_FOR_UNIT: usize = 3;
/// Steps that are found and not yet overwritten, where up to sixteen columns multiply them.
const N_KEPT: usize = 4;
/// The scale of high bytes.
const HIGH: f32 = 256.0;

/// Bytes of columns that stay in the second cache while all tiles pass over them, and how many columns that is at least and at most:
/// the more there are, the less often weights are found.
const RESIDENT_BYTES: usize = 3 << 19;
const N_RESIDENT: [usize; 2] = [96, 512];

/// Columns, whose planes have `n_lanes`, that all tiles pass over before others come.
pub(super) fn n_resident(n_lanes: usize) -> usize {
    let n = RESIDENT_BYTES / (2 * n_lanes * size_of::<i32>());
    (n / LANES * LANES).clamp(N_RESIDENT[0], N_RESIDENT[1])
}

/// What one thread finds in a pair, and its sums.
#[derive(Default)]
pub(crate) struct Found {
    weights: FoundWeights,
    sums: ByteSums,
}

#[derive(Default)]
struct FoundWeights {
    /// Of each step two squares.
    squares: Aligned<u8>,
    /// Of each block both tiles' minimums.
    minimums: Aligned<f32>,
}

impl Found {
    /// Works, with the unit set up if these columns are enough for it.
    pub(super) fn work(&mut self, task: &Task<'_>, n_columns: usize, work: impl FnOnce(&mut Self)) {
        if n_columns < N_FOR_UNIT || !task.product.matrix.has_whole() {
            return work(self);
        }
        let n_kept = if n_columns > LANES {
            task.n_steps()
        } else {
            N_KEPT
        };
        self.weights.squares.resize(n_kept * 2 * SQUARE);
        let n_blocks = task.n_steps() * N_BLOCKS;
        self.weights.minimums.resize(n_blocks * 2 * LANES);
        let set_up = SetUp::Bytes { n_columns };
        task.vectors.set_up(set_up, || work(self));
    }
}

impl FoundWeights {
    /// Finds the weights of a step and puts them in place `place`; what lies `n_ahead` bytes behind them is fetched.
    #[inline(always)]
    fn find<U: Unit>(
        &mut self,
        s: U::Vectors,
        unit: U,
        place: usize,
        (idx, step): (usize, Step<'_>),
        n_ahead: usize,
    ) {
        let (squares, _) = self.squares.as_chunks_mut::<SQUARE>();
        let (minimums, _) = self.minimums.as_chunks_mut::<LANES>();
        for block in 0..N_BLOCKS {
            for which in 0..2 {
                fetch(step.part(N_BLOCKS * block + which, 2 * N_BLOCKS), n_ahead);
                let factors = unit.factors(step.factors(block, which));
                let (lines, _) = squares[2 * place + which].as_chunks_mut::<LINE>();
                for line_idx in 0..N_LINES {
                    let whole = unit.whole(step.line(block, line_idx, which), factors);
                    let first = 2 * N_LINES * block + line_idx;
                    unit.store(whole[0], &mut lines[first]);
                    unit.store(whole[1], &mut lines[first + N_LINES]);
                }
                let target = &mut minimums[2 * (N_BLOCKS * idx + block) + which];
                s.store(s.load_f16(step.minimums(block, which)), target);
            }
        }
    }

    /// The squares of some places.
    #[inline(always)]
    fn squares(&self, places: Range<usize>) -> &[[[u8; SQUARE]; 2]] {
        &self.squares.as_chunks().0.as_chunks().0[places]
    }
}

/// A pair times some columns.
pub(super) struct WholeProduct<'a> {
    pub(super) pair: WholePair<'a>,
    pub(super) columns: Range<usize>,
    pub(super) found: &'a mut Found,
}

/// One or two tiles of a pair of whole weights.
pub(super) struct WholePair<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) tiles: TilePair<'a>,
    pub(super) upcoming: &'a Upcoming,
}

impl UnitKernel for WholeProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(mut self, s: U::Vectors, unit: U) {
        match self.columns.len() {
            0..N_FOR_UNIT => {
                let mut column = self.columns.start;
                while column < self.columns.end {
                    column += match self.columns.end - column {
                        2.. => self.pair.few::<U, 2>(s, unit, column),
                        _ => self.pair.few::<U, 1>(s, unit, column),
                    };
                }
            }
            n @ N_FOR_UNIT.. if are_together(n) => self.at_once::<U, true>(s, unit),
            N_FOR_UNIT..=LANES => self.at_once::<U, false>(s, unit),
            _ => self.many(s, unit),
        }
    }
}

impl WholeProduct<'_> {
    /// Up to sixteen columns: a step is multiplied while the next one is found.
    #[inline(always)]
    fn at_once<U: Unit, const TOGETHER: bool>(&mut self, s: U::Vectors, unit: U) {
        let (pair, columns) = (&self.pair, self.columns.clone());
        let Found { weights, sums } = self.found;
        pair.expect(columns.clone());
        let (steps, _) = parts(pair.weights());
        // SAFETY: the unit has been set up for these columns, which are prepared.
        unsafe {
            unit.begin_sums::<TOGETHER>(sums);
            for idx in 0..=steps.len() {
                if let Some(step) = steps.get(idx) {
                    pair.upcoming.fetch();
                    weights.find(s, unit, idx % N_KEPT, (idx, Step(step)), N_AHEAD);
                }
                if let Some(idx) = idx.checked_sub(1) {
                    let place = idx % N_KEPT;
                    let squares = weights.squares(place..place + 1);
                    unit.add_steps::<TOGETHER>(pair.steps(columns.clone(), idx, squares), sums);
                }
            }
            unit.end_sums::<TOGETHER>(sums);
        }
        let of = (&*weights.minimums, &*sums);
        pair.finish_each::<_, TOGETHER>(s, columns.clone(), columns.start, of);
    }

    /// More columns, sixteen at a time: the last sixteen overlap those before if there are no whole sixteen left.
    #[inline(always)]
    fn many<U: Unit>(&mut self, s: U::Vectors, unit: U) {
        let (pair, columns) = (&self.pair, self.columns.clone());
        let Found { weights, sums } = self.found;
        let (steps, _) = parts(pair.weights());
        for (idx, step) in steps.iter().enumerate() {
            weights.find(s, unit, idx, (idx, Step(step)), pair.weights().len());
        }
        let until = |first: usize| columns.end.min(first + LANES);
        pair.expect(columns.start..until(columns.start));
        for first in columns.clone().step_by(LANES) {
            let end = until(first);
            let all = end - LANES..end;
            // What is written next comes while the unit works.
            pair.expect(end..until(end));
            // SAFETY: the unit has been set up for sixteen columns, and these are prepared.
            unsafe {
                unit.begin_sums::<false>(sums);
                let squares = weights.squares(0..steps.len());
                unit.add_steps::<false>(pair.steps(all.clone(), 0, squares), sums);
                unit.end_sums::<false>(sums);
            }
            let of = (&*weights.minimums, &*sums);
            pair.finish_each::<_, false>(s, first..end, all.start, of);
        }
    }
}

impl WholePair<'_> {
    #[inline(always)]
    fn weights(&self) -> &[u8] {
        let n_cols = self.task.product.matrix.n_cols();
        self.tiles.pairs.weights(self.tiles.pair_idx, n_cols)
    }

    /// Asks for the lines that will be written.
    #[inline(always)]
    fn expect(&self, columns: Range<usize>) {
        for column in columns {
            match self.tiles.n_tiles {
                1 => self.task.expect::<1>(&self.tiles, column),
                _ => self.task.expect::<2>(&self.tiles, column),
            }
        }
    }

    /// Some steps of some columns, from a step on, and their weights.
    #[inline(always)]
    fn steps<'s>(
        &'s self,
        columns: Range<usize>,
        first: usize,
        weights: &'s [[[u8; SQUARE]; 2]],
    ) -> Steps<'s> {
        Steps {
            planes: &self.task.planes(columns)[first * LINE_LANES..],
            stride: self.task.n_split,
            weights,
        }
    }

    /// Computes `C` columns on vectors, and returns their number.
    #[inline(always)]
    fn few<U: Unit, const C: usize>(&self, s: U::Vectors, unit: U, column: usize) -> usize {
        // A kernel of its own, so that its registers are allotted for it alone.
        let kernel = Few::<C> { pair: self, column };
        s.run(WithUnit {
            kernel,
            vectors: s,
            unit,
        });
        C
    }

    /// Finishes columns, whose sums lie behind those of the columns from `first` on.
    #[inline(always)]
    fn finish_each<S: Simd, const TOGETHER: bool>(
        &self,
        s: S,
        columns: Range<usize>,
        first: usize,
        (minimums, sums): (&[f32], &ByteSums),
    ) {
        let mut column = columns.start;
        while column < columns.end {
            let at = (column, column - first);
            column += match columns.end - column {
                8.. => self.finish_some::<S, TOGETHER, 8>(s, at, minimums, sums),
                4.. => self.finish_some::<S, TOGETHER, 4>(s, at, minimums, sums),
                2.. => self.finish_some::<S, TOGETHER, 2>(s, at, minimums, sums),
                _ => self.finish_some::<S, TOGETHER, 1>(s, at, minimums, sums),
            };
        }
    }

    /// Finishes `C` columns from a column on, which is number `column_idx` of those with sums, and returns their number.
    #[inline(always)]
    fn finish_some<S: Simd, const TOGETHER: bool, const C: usize>(
        &self,
        s: S,
        (column, column_idx): (usize, usize),
        minimums: &[f32],
        sums: &ByteSums,
    ) -> usize {
        // A kernel of its own, so that its registers are allotted for it alone.
        s.run(Finish::<TOGETHER, C> {
            pair: self,
            column,
            column_idx,
            minimums,
            sums,
        });
        C
    }

    /// Adds the products of `C` columns' totals and a block's minimums of both tiles.
    #[inline(always)]
    fn add_minimums<S: Simd, const C: usize>(
        s: S,
        totals: [&[f32]; C],
        block_idx: usize,
        minimums: [S::F; 2],
        outputs: &mut [[S::F; C]; 2],
    ) {
        for (c, totals) in totals.iter().enumerate() {
            let total = s.splat(totals[block_idx]);
            for (outputs, &minimums) in outputs.iter_mut().zip(&minimums) {
                outputs[c] = s.mul_add(minimums, total, outputs[c]);
            }
        }
    }

    /// The totals of `C` columns.
    #[inline(always)]
    fn totals<const C: usize>(&self, column: usize) -> [&[f32]; C] {
        let mut totals: [&[f32]; C] = [&[]; C];
        for (c, totals) in totals.iter_mut().enumerate() {
            *totals = self.task.totals(column + c);
        }
        totals
    }

    /// Adds sums of high and of low bytes to those of minimums, scales them, and does what is to be done.
    #[inline(always)]
    fn finish<S: Simd, const C: usize>(
        &self,
        s: S,
        column: usize,
        mut outputs: [[S::F; C]; 2],
        [high, low]: [[[S::I; C]; 2]; 2],
    ) {
        let (_, units) = parts(self.weights());
        for t in 0..2 {
            let unit = s.load_f32(units[t]);
            let high_unit = s.mul(unit, s.splat(HIGH));
            for c in 0..C {
                let sum = s.mul_add(s.to_f32(high[t][c]), high_unit, outputs[t][c]);
                outputs[t][c] = s.mul_add(s.to_f32(low[t][c]), unit, sum);
            }
        }
        let [first, second] = outputs;
        for (c, (first, second)) in first.into_iter().zip(second).enumerate() {
            let scale = self.task.totals(column + c).last().copied();
            let scale = s.splat(scale.expect("a scale behind the totals"));
            let both = [s.mul(first, scale), s.mul(second, scale)];
            match self.tiles.n_tiles {
                1 => self
                    .task
                    .put(s, &self.tiles, column + c, [both[self.tiles.first]]),
                _ => self.task.put(s, &self.tiles, column + c, both),
            }
        }
    }
}

/// What is left of `C` columns when their products have been summed.
struct Finish<'a, const TOGETHER: bool, const C: usize> {
    pair: &'a WholePair<'a>,
    column: usize,
    /// Which of the columns with sums is the first.
    column_idx: usize,
    /// Of each block both tiles'.
    minimums: &'a [f32],
    sums: &'a ByteSums,
}

impl<const TOGETHER: bool, const C: usize> Kernel for Finish<'_, TOGETHER, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let totals = self.pair.totals::<C>(self.column);
        let mut outputs = [[s.splat(0.0); C]; 2];
        let (blocks, _) = self.minimums.as_chunks::<LANES>().0.as_chunks::<2>();
        for (block_idx, [first, second]) in blocks.iter().enumerate() {
            let minimums = [s.load(first), s.load(second)];
            WholePair::add_minimums(s, totals, block_idx, minimums, &mut outputs);
        }
        let mut planes = [[[s.splat_int(0); C]; 2]; 2];
        for (plane_idx, plane) in planes.iter_mut().enumerate() {
            for (t, tile) in plane.iter_mut().enumerate() {
                for (c, sums) in tile.iter_mut().enumerate() {
                    let column = self.column_idx + c;
                    *sums = s.load_bytes(self.sums.line::<TOGETHER>(plane_idx, t, column));
                }
            }
        }
        self.pair.finish(s, self.column, outputs, planes);
    }
}

/// A pair times `C` columns from `column` on.
struct Few<'a, const C: usize> {
    pair: &'a WholePair<'a>,
    column: usize,
}

impl<const C: usize> UnitKernel for Few<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(self, s: U::Vectors, unit: U) {
        let (pair, task) = (self.pair, self.pair.task);
        pair.expect(self.column..self.column + C);
        let lanes = task.planes(self.column..self.column + C);
        let totals = pair.totals::<C>(self.column);
        let mut planes = [[[s.splat_int(0); C]; 2]; 2];
        let mut outputs = [[s.splat(0.0); C]; 2];
        let (steps, _) = parts(pair.weights());
        for (idx, step) in steps.iter().enumerate() {
            let step = Step(step);
            let mut inputs = [[&[0; LINE_LANES]; C]; 2];
            for (plane, inputs) in inputs.iter_mut().enumerate() {
                for (c, inputs) in inputs.iter_mut().enumerate() {
                    let first = (2 * c + plane) * task.n_split + idx * LINE_LANES;
                    let line = lanes[first..].first_chunk();
                    *inputs = line.expect("a plane has a line for every step");
                }
            }
            for block in 0..N_BLOCKS {
                fetch(step.part(block, N_BLOCKS), N_AHEAD);
                let factors = [
                    unit.factors(step.factors(block, 0)),
                    unit.factors(step.factors(block, 1)),
                ];
                for line_idx in 0..N_LINES {
                    for t in 0..2 {
                        let whole = unit.whole(step.line(block, line_idx, t), factors[t]);
                        for c in 0..C {
                            for (plane, planes) in planes.iter_mut().enumerate() {
                                let first = 2 * N_LINES * block + line_idx;
                                for (i, &whole) in whole.iter().enumerate() {
                                    let x = s.splat_int(inputs[plane][c][first + i * N_LINES]);
                                    planes[t][c] = s.dot4(planes[t][c], whole, x);
                                }
                            }
                        }
                    }
                }
                let minimums = [
                    s.load_f16(step.minimums(block, 0)),
                    s.load_f16(step.minimums(block, 1)),
                ];
                let block_idx = N_BLOCKS * idx + block;
                WholePair::add_minimums(s, totals, block_idx, minimums, &mut outputs);
            }
        }
        pair.finish(s, self.column, outputs, planes);
    }
}
