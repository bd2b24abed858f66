//! Attention on a unit for squares of bf16 (see [`crate::squares`]): sixteen queries together read a vector of sixteen positions.
//!
//! Strides, weights and how they are rounded are as without a unit. Scores are sums over 32 elements at a time, weighted values over
//! sixteen positions, which begin at multiples of sixteen: what a query computes depends on its own position alone here, too.

use std::ops::Range;

use half::bf16;

use super::{Inputs, ItemKernel, Query, Scratch, SoFar};
use crate::kv::{KvElement, Squared};
use crate::simd::{Kernel, LANES, Simd};
use crate::squares::{N_ELEMENTS, N_POSITIONS, Scores, Strided, Unit, UnitKernel, Values};
use crate::{AttentionSpan, KvShape};

/// Vectors of positions that a unit is handed at once, at most.
const N_VECTORS: usize = 16;

/// Whether keys and values lie in whole squares.
pub(crate) fn are_squares(shape: KvShape) -> bool {
    shape.head_dim.is_multiple_of(N_ELEMENTS) && shape.page_size.is_multiple_of(N_POSITIONS)
}

/// Whether there are queries enough to use a unit.
pub(super) fn are_many<T>(inputs: &Inputs<'_, T>) -> bool {
    let n_queries = |span: &AttentionSpan<'_>| span.n_rows * inputs.group_len();
    inputs.spans.iter().any(|span| n_queries(span) >= LANES)
}

impl UnitKernel for ItemKernel<'_, Squared> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(mut self, s: U::Vectors, unit: U) {
        let n_queries = self.item.n_rows * self.inputs.group_len();
        if n_queries < LANES {
            return self.run(s);
        }
        for first in (0..n_queries).step_by(LANES) {
            // A kernel of its own, as without a unit.
            let n = LANES.min(n_queries - first);
            s.run(Together {
                item: &mut self,
                unit,
                queries: first..first + n,
            });
        }
    }
}

/// Up to sixteen queries.
struct Together<'k, 'a, U> {
    item: &'k mut ItemKernel<'a, Squared>,
    unit: U,
    queries: Range<usize>,
}

impl<U: Unit> Kernel for Together<'_, '_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let last = self.queries.end - 1;
        let queries: [Query; LANES] =
            std::array::from_fn(|i| self.item.query(last.min(self.queries.start + i)));
        let queries = &queries[..self.queries.len()];
        let mut sofar = [SoFar::new(s); LANES];
        self.item.begin(s, queries);
        for (start, end) in self.item.strides(queries) {
            self.score(start, end);
            self.item.weigh_each(s, (start, end), queries, &mut sofar);
            self.add_values(start, end);
        }
        self.item.finish(s, queries, &sofar);
    }
}

impl<U: Unit> Together<'_, '_, U> {
    /// The scores of positions `start..end`. The last vector may run over: the weighing overwrites what it left.
    #[inline(always)]
    fn score(&mut self, start: usize, end: usize) {
        let (inputs, kv_head) = (self.item.inputs, self.item.item.kv_head);
        let (kv, shape) = (inputs.kv, inputs.kv.shape);
        let line_len = Squared::N_TOGETHER * shape.n_lanes();
        for first in (start..end).step_by(N_VECTORS * N_POSITIONS) {
            let positions = first..end.min(first + N_VECTORS * N_POSITIONS);
            for element in (0..shape.head_dim).step_by(N_ELEMENTS) {
                let keys = vectors(positions.clone(), |position| {
                    let page = self.item.item.span.pages[position / shape.page_size];
                    let at = shape.key_at::<Squared>(position % shape.page_size, element);
                    kv.keys(inputs.layer.idx, page, kv_head)[at..].as_ptr()
                });
                let keys = &keys[..positions.len().div_ceil(N_POSITIONS)];
                let scratch = &mut *self.item.scratch;
                let queries = &scratch.queries[element / 2..]
                    [..(LANES - 1) * shape.head_dim + N_ELEMENTS / 2];
                let scores_len = scratch.scores_len;
                let scores = &mut scratch.scores[first - start..]
                    [..(LANES - 1) * scores_len + keys.len() * N_POSITIONS];
                // SAFETY: the unit is set up; sixteen lines of queries and of scores begin in the slices and end in them; a page has
                // as many lines of keys as a head has pairs of elements, and whole vectors of positions.
                unsafe {
                    self.unit.add_scores(Scores {
                        queries: lines(queries.as_ptr().cast_mut(), shape.head_dim),
                        keys,
                        key_stride: line_len * size_of::<Squared>(),
                        scores: lines(scores.as_mut_ptr(), scores_len),
                        are_first: element == 0,
                    });
                }
            }
        }
    }

    /// Adds the weighted values of positions `start..end`.
    #[inline(always)]
    fn add_values(&mut self, start: usize, end: usize) {
        let (inputs, kv_head) = (self.item.inputs, self.item.item.kv_head);
        let (kv, shape) = (inputs.kv, inputs.kv.shape);
        let pages = self.item.item.span.pages;
        // The values of sixteen positions: in lines of two positions' elements.
        let line_len = Squared::N_TOGETHER * shape.head_dim;
        let values_at = |position: usize| {
            let page = pages[position / shape.page_size];
            let at = shape.value_at::<Squared>(position % shape.page_size, 0);
            &kv.values(inputs.layer.idx, page, kv_head)[at..][..N_POSITIONS * shape.head_dim]
        };
        let n_last = end % N_POSITIONS;
        if n_last > 0 {
            copy_first(
                Squared::as_bf16(values_at(end - n_last)),
                n_last,
                &mut self.item.scratch.last_values,
            );
        }
        for first in (start..end).step_by(N_VECTORS * N_POSITIONS) {
            let positions = first..end.min(first + N_VECTORS * N_POSITIONS);
            let Scratch {
                weights,
                scores_len,
                sums,
                last_values,
                ..
            } = &mut *self.item.scratch;
            for element in (0..shape.head_dim).step_by(N_ELEMENTS) {
                let at = shape.value_at::<Squared>(0, element);
                let values = vectors(positions.clone(), |position| {
                    if position + N_POSITIONS > end {
                        last_values[at..].as_ptr().cast()
                    } else {
                        values_at(position)[at..].as_ptr()
                    }
                });
                let values = &values[..positions.len().div_ceil(N_POSITIONS)];
                let weights = &weights[(first - start) / 2..]
                    [..(LANES - 1) * *scores_len + values.len() * N_POSITIONS / 2];
                let sums = &mut sums[element..][..(LANES - 1) * shape.head_dim + N_ELEMENTS];
                // SAFETY: the unit is set up; sixteen lines of weights and of sums begin in the slices and end in them; values are
                // eight lines of as many pairs as a head has elements, from one of its sixty-fourths on.
                unsafe {
                    self.unit.add_values(Values {
                        weights: lines(weights.as_ptr().cast_mut(), *scores_len),
                        values,
                        value_stride: line_len * size_of::<Squared>(),
                        sums: lines(sums.as_mut_ptr(), shape.head_dim),
                    });
                }
            }
        }
    }
}

/// Lines of `len` numbers of 32 bits.
fn lines<T>(start: *mut T, len: usize) -> Strided<T> {
    Strided {
        start,
        stride: len * size_of::<T>(),
    }
}

/// Where the vectors of some positions begin, up to [`N_VECTORS`].
#[inline(always)]
fn vectors(
    positions: Range<usize>,
    start_of: impl Fn(usize) -> *const Squared,
) -> [*const u8; N_VECTORS] {
    let mut starts = [std::ptr::null(); N_VECTORS];
    for (start, position) in starts.iter_mut().zip(positions.step_by(N_POSITIONS)) {
        *start = start_of(position).cast();
    }
    starts
}

/// Copies the values of the first `n` of sixteen positions, with zeros behind them: nothing need have been written there.
#[inline(always)]
fn copy_first(values: &[bf16], n: usize, out: &mut [bf16]) {
    let line_len = values.len() / (N_POSITIONS / 2);
    let n_whole = n / 2 * line_len;
    out[..n_whole].copy_from_slice(&values[..n_whole]);
    out[n_whole..].fill(bf16::ZERO);
    if n % 2 == 1 {
        let (pairs, _) = out[n_whole..][..line_len].as_chunks_mut::<2>();
        for (pair, values) in pairs.iter_mut().zip(values[n_whole..].as_chunks::<2>().0) {
            pair[0] = values[0];
        }
    }
}
