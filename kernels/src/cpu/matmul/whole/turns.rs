//! Many columns times whole weights, in *turns* of sixteen columns and a pair of tiles.
//!
//! The weights of some pairs are found first, as many as stay in the second cache; then sixteen columns, which stay in the
//! first, meet one pair after another. What becomes of outputs is the work of vectors, for which the unit need not wait; but both go on side by
//! side only if their instructions alternate in small portions, for a processor looks no more than some hundred instructions ahead. So with
//! each step of the unit come some columns of the turn before.

use std::ops::Range;

use super::super::super::matrix::whole::Scales;
use super::super::super::matrix::whole::{Step, parts};
use super::super::super::quantise::split::LINE_LANES;
use super::super::super::quantise::split::Whole;
use super::super::Outputs;
use super::{Found, FoundWeights, WholePair, WholeProduct, load_sums, n_squares, outputs};
use crate::simd::{LANES, Simd};
use crate::squares::{ByteSums, Steps, Unit, UnitKernel, WithUnit};

impl WholeProduct<'_> {
    /// More than sixteen columns, sixteen at a time: the last sixteen overlap those before if there are no whole sixteen left.
    #[inline(always)]
    pub(super) fn in_turns<U: Unit>(&mut self, s: U::Vectors, unit: U) {
        let (task, columns) = (self.task, self.columns.clone());
        let Found {
            weights,
            sums: [now, before],
        } = self.found;
        let n_squares = n_squares(task.n_steps());
        for (pair_idx, tiles) in self.pairs.iter().enumerate() {
            let pair = WholePair { task, tiles };
            let (steps, _) = parts(pair.weights());
            let first = pair_idx * n_squares;
            for (idx, step) in steps.iter().enumerate() {
                let minimums = (first + steps.len(), idx);
                weights.find((s, unit), Step(step), first + idx, minimums);
            }
        }
        let n_groups = columns.len().div_ceil(LANES);
        let (mut now, mut before) = (now, before);
        let mut due: Option<Due<'_>> = None;
        // SAFETY: the unit has been set up.
        unsafe { unit.begin_sums::<false>(now) };
        for (group_idx, first) in columns.clone().step_by(LANES).enumerate() {
            let end = columns.end.min(first + LANES);
            for (pair_idx, tiles) in self.pairs.iter().enumerate() {
                let pair = WholePair { task, tiles };
                pair.fetch_part(group_idx, n_groups, self.pairs.len());
                let all = end - LANES;
                let this = Due {
                    pair,
                    first: all,
                    n_done: first - all,
                    wholes: task.wholes(all..end),
                    scales: parts(pair.weights()).1,
                    outputs: task.outputs(tiles, all, LANES),
                };
                // A kernel of its own, so that its registers are allotted for it alone.
                let kernel = Turn {
                    weights,
                    places: pair_idx * n_squares..(pair_idx + 1) * n_squares,
                    this: &this,
                    now,
                    due: due.as_ref(),
                    before,
                };
                s.run(WithUnit {
                    kernel,
                    vectors: s,
                    unit,
                });
                due = Some(this);
                (now, before) = (before, now);
            }
        }
        if let Some(due) = due {
            // SAFETY: the unit has been set up, and its sums have been begun.
            unsafe { unit.end_sums::<false>(before) };
            due.finish(s, 0..LANES, before);
        }
    }
}

/// Sixteen columns and a pair, whose outputs are due when they have been summed.
struct Due<'a> {
    pair: WholePair<'a>,
    /// The first column.
    first: usize,
    /// Columns whose outputs there are already.
    n_done: usize,
    /// What columns and rows are scaled by.
    wholes: &'a [Whole],
    scales: Scales<'a>,
    outputs: Option<Outputs<'a>>,
}

impl Due<'_> {
    /// Does what is to be done with the outputs of some of the sixteen columns, if they are wanted.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, idxs: Range<usize>, sums: &ByteSums) {
        for idx in idxs.start.max(self.n_done)..idxs.end {
            let planes = load_sums::<S, false>(s, idx, sums);
            let Some(target) = &self.outputs else {
                self.pair.finish(s, self.first + idx, planes);
                continue;
            };
            let both = outputs(s, self.wholes[idx], self.scales, planes);
            // SAFETY: it is one of the sixteen columns, which are this thread's.
            unsafe { target.put(s, idx, both) };
        }
    }

    /// Asks for the lines that will be written.
    #[inline(always)]
    fn expect(&self, idxs: Range<usize>) {
        for idx in idxs {
            match &self.outputs {
                Some(outputs) => outputs.expect(idx),
                None => self.pair.expect(self.first + idx..self.first + idx + 1),
            }
        }
    }
}

/// One turn.
struct Turn<'a> {
    weights: &'a FoundWeights,
    /// Where the pair's squares have been put.
    places: Range<usize>,
    this: &'a Due<'a>,
    now: &'a mut ByteSums,
    /// What is due, and where its sums go.
    due: Option<&'a Due<'a>>,
    before: &'a mut ByteSums,
}

impl UnitKernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(self, s: U::Vectors, unit: U) {
        let squares = self.weights.squares(self.places);
        let first = self.this.first;
        let all = self.this.pair.steps(first..first + LANES, 0, squares);
        let step = |idx: usize| Steps {
            planes: &all.planes[idx * LINE_LANES..],
            stride: all.stride,
            weights: &all.weights[idx..=idx],
        };
        // SAFETY: the unit has been set up for sixteen columns, and these are prepared.
        unsafe { unit.begin_step(step(0), self.before, self.now) };
        let n_left = squares.len() - 1;
        for idx in 0..n_left {
            // SAFETY: as above.
            unsafe { unit.add_steps::<false>(step(idx + 1), self.now) };
            let part = LANES * idx / n_left..LANES * (idx + 1) / n_left;
            if let Some(due) = self.due {
                due.finish(s, part.clone(), self.before);
            }
            self.this.expect(part);
        }
    }
}
