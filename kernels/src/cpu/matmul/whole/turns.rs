//! Many columns times whole weights, in *turns* of sixteen columns and a pair of tiles.
//!
//! The weights of some pairs, as many as stay in the second cache, are found first, or lie there as they are where they have eight bits;
//! then sixteen columns, which stay in the first, meet one pair after another. What becomes of outputs is the work of vectors, for which the unit need not wait; but both go on side by
//! side only if their instructions alternate in small portions, for a processor looks no more than some hundred instructions ahead. So with
//! each step of the unit come some columns of the turn before.

use super::super::super::matrix::whole::{WholeFormat, bytes};
use super::{Due, Found, WholePair, WholeProduct};
use crate::simd::{LANES, Simd};
use crate::squares::{ByteSums, SQUARE, Unit, UnitKernel, WithUnit};

impl WholeProduct<'_> {
    /// More than sixteen columns, sixteen at a time: the last sixteen overlap those before if there are no whole sixteen left.
    #[inline(always)]
    pub(super) fn in_turns<U: Unit>(&mut self, s: U::Vectors, unit: U) {
        let (task, format, pairs) = (self.task, self.format, self.pairs);
        let columns = self.columns.clone();
        let Found {
            weights,
            sums: [now, before],
        } = self.found;
        let pair_of = |tiles| WholePair {
            task,
            format,
            tiles,
        };
        if format == WholeFormat::Nibbles {
            for (pair_idx, tiles) in pairs.iter().enumerate() {
                weights.find_pair((s, unit), pair_of(tiles), pair_idx);
            }
        }
        let n_groups = columns.len().div_ceil(LANES);
        let (mut now, mut before) = (now, before);
        let mut due: Option<Due<'_>> = None;
        // SAFETY: the unit has been set up.
        unsafe { unit.begin_sums::<false>(now) };
        for (group_idx, first) in columns.clone().step_by(LANES).enumerate() {
            let end = columns.end.min(first + LANES);
            for (pair_idx, tiles) in pairs.iter().enumerate() {
                let pair = pair_of(tiles);
                pair.fetch_part(group_idx, n_groups, pairs.len());
                let this = Due::new(pair, end - LANES..end, first);
                // A kernel of its own, so that its registers are allotted for it alone.
                let kernel = Turn {
                    squares: match format {
                        WholeFormat::Nibbles => weights.pair(pair_idx, pair.n_squares()),
                        WholeFormat::Bytes => bytes::steps(pair.weights()),
                    },
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
            due.finish::<_, false>(s, 0..LANES, before);
        }
    }
}

/// One turn.
struct Turn<'a> {
    squares: &'a [[[u8; SQUARE]; 2]],
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
        let squares = self.squares;
        let Due { pair, first, .. } = *self.this;
        let planes = pair.task.planes(first..first + LANES);
        // SAFETY: the unit has been set up for sixteen columns, and these are prepared.
        unsafe { unit.begin_step(pair.step(planes, 0, &squares[0]), self.before, self.now) };
        // The columns of the turn before come beside the other steps; where there are none, behind this one.
        let n_parts = (squares.len() - 1).max(1);
        for idx in 0..n_parts {
            if let Some(squares) = squares.get(idx + 1) {
                // SAFETY: as above.
                unsafe { unit.add_step::<false>(pair.step(planes, idx + 1, squares), self.now) };
            }
            let part = LANES * idx / n_parts..LANES * (idx + 1) / n_parts;
            if let Some(due) = self.due {
                due.finish::<_, false>(s, part.clone(), self.before);
            }
            self.this.expect(part);
        }
    }
}
