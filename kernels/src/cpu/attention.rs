//! Causal attention over pages, with the softmax taken online; [`element`] says how stored numbers are multiplied.
//!
//! Positions are taken in *strides*, a fixed number of whole pages of at least 256 positions, counted from position 0:
//! within a stride all scores, then their maximum, then the weighted values in ascending order; between strides the sums
//! so far are rescaled (Milakov and Gimelshein 2018) where the maximum has grown by much. Scores are in units of ln 2, so that weights are powers of two.
//! What a query computes depends on its own position and on nothing else.

#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code, reason = "no such machine has a unit but in tests")
)]
mod by_unit;
mod element;
mod items;
mod squared;

use std::f32::consts::LOG2_E;
use std::ops::Range;
use std::slice::ChunksExact;

use half::bf16;

use super::Vectors;
use super::elementwise::softcap;
use super::upcoming::Upcoming;
use crate::aligned::Aligned;
use crate::buffer::Buffer;
use crate::kv::KvPool;
use crate::pool::Pool;
use crate::share::own_rows;
use crate::shared::SharedSlice;
use crate::simd::{self, Kernel, LANES, Simd};
use crate::squares::SetUp;
use crate::{AttentionLayer, AttentionSpan, Heads};
pub(crate) use by_unit::are_squares;
pub(crate) use element::{CODES_LIMITS, Element};
use items::{Item, are_even, items};

/// The least number of positions of a stride.
const MIN_STRIDE: usize = 256;
/// Rows of a work item, where each thread has its own.
const N_ROWS: usize = 8;
/// Rows of a work item whose queries a unit takes together: whole sixteens, whatever a group's length.
const N_UNIT_ROWS: usize = LANES;
/// Queries that read keys and values together, at most, without a unit.
const N_QUERIES: usize = 6;
/// Lines of keys, and runs of values, whose products are chained where chains end.
const N_CHAINED_KEYS: usize = LANES;
const N_CHAINED_VALUES: usize = LANES / 2;
/// Queries that are too few to hide how long keys and values take to come.
const N_FEW: usize = 3;
/// By how much scores exceed what is taken from them before sums are rescaled: weights are 256 at most. The ratio of sums to their
/// total is what counts, and few scores exceed those before by more (as in FlashAttention-4).
const MARGIN: f32 = 8.0;
/// Pages between the one that is scored and the one that is fetched.
const N_PAGES_AHEAD: usize = 4;

/// What attention reads.
pub(crate) struct Inputs<'a, T> {
    pub(crate) kv: &'a KvPool<T>,
    pub(crate) layer: AttentionLayer,
    pub(crate) x: &'a Buffer,
    pub(crate) queries: Heads,
    pub(crate) spans: &'a [AttentionSpan<'a>],
}

impl<T> Inputs<'_, T> {
    /// Query heads that share one key head.
    #[inline(always)]
    fn group_len(&self) -> usize {
        self.queries.n_heads / self.kv.shape.n_kv_heads
    }
}

/// Fills `out`, `[n_rows, n_heads * head_dim]`. Each thread notes what it reads.
pub(crate) fn attention<T: Element>(
    pool: &mut Pool,
    vectors: Vectors,
    (scratch, upcoming): (&mut Vec<Scratch>, &mut [Upcoming]),
    inputs: &Inputs<'_, T>,
    out: &mut Buffer,
) {
    let width = out.width();
    let out = SharedSlice::new(out.resize(inputs.x.n_rows()));
    let n_threads = pool.n_threads();
    let is_own = are_even(inputs, n_threads);
    let uses_unit = T::ARE_SQUARES && by_unit::are_many(inputs);
    scratch.resize_with(n_threads, Scratch::default);
    for scratch in &mut *scratch {
        scratch.fit(inputs);
    }
    let (scratch, upcoming) = (SharedSlice::new(scratch), SharedSlice::new(upcoming));
    pool.run(&|thread_idx| {
        // SAFETY: each thread's index is run once, and has its own.
        let scratch = unsafe { &mut scratch.part_mut(thread_idx..thread_idx + 1)[0] };
        // SAFETY: as above.
        let upcoming = unsafe { &mut upcoming.part_mut(thread_idx..thread_idx + 1)[0] };
        upcoming.clear();
        let n_rows = inputs.x.n_rows();
        // Items that are dealt out are as small as queries are taken together, so that every thread has as many.
        let n_together = N_QUERIES.div_ceil(inputs.group_len());
        let [n_own, n_dealt_out] = if uses_unit {
            [N_UNIT_ROWS; 2]
        } else {
            [N_ROWS, n_together]
        };
        let (runs, n_item_rows, n_skipped, step) = if is_own {
            (own_rows(n_rows, thread_idx, n_threads), n_own, 0, 1)
        } else {
            (own_rows(n_rows, 0, 1), n_dealt_out, thread_idx, n_threads)
        };
        let items = items(inputs, &runs, n_item_rows);
        let mut items = items.skip(n_skipped).step_by(step);
        let mut next = items.next();
        let mut attend = || {
            while let Some(item) = next {
                next = items.next();
                // Those of many rows are read often enough to be in the caches, where nothing else should take their place.
                if item.first == 0 && item.span.n_rows < N_ROWS {
                    upcoming.note(
                        inputs.kv,
                        inputs.layer.idx,
                        item.kv_head,
                        item.pages(inputs),
                    );
                }
                let kernel = ItemKernel {
                    inputs,
                    item,
                    next,
                    out: &out,
                    width,
                    scratch,
                };
                T::run(vectors, kernel);
            }
        };
        if uses_unit {
            vectors.set_up(SetUp::Attention, attend);
        } else {
            attend();
        }
    });
}

/// A thread's own memory.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Positions of a stride.
    stride: usize,
    /// Positions before a window are left out in runs of this length. A run is whole vectors and whole pages, so that
    /// what is left out moves no position to another lane.
    skipped: usize,
    /// Elements of one query's scores: a stride and two vectors.
    scores_len: usize,
    /// `[LANES, scores_len]`, of as many queries as are taken together; so are all others.
    scores: Aligned<f32>,
    /// What the scores become, a lane for what a product takes together: `[LANES, scores_len]`, not all of it used.
    weights: Aligned<i32>,
    /// What a query's weights are to be multiplied by.
    weight_scales: [f32; LANES],
    /// Scales of the stride's values, where they have some: `[scores_len]`.
    value_scales: Aligned<f32>,
    /// Queries, already scaled, in lanes like the weights: `[LANES, head_dim]`.
    queries: Aligned<i32>,
    /// What a query's elements are to be multiplied by.
    query_scales: [f32; LANES],
    /// `[LANES, head_dim]`: weighted sums of values.
    sums: Aligned<f32>,
    /// The values of a vector of positions the last of which have none: `[LANES / 2, head_dim, 2]`.
    last_values: Aligned<bf16>,
}

impl Scratch {
    /// Makes room for a model's shape.
    fn fit<T: Element>(&mut self, inputs: &Inputs<'_, T>) {
        let page_size = inputs.kv.shape.page_size;
        let head_dim = inputs.kv.shape.head_dim;
        self.stride = page_size * MIN_STRIDE.div_ceil(page_size);
        let has_whole_vectors = page_size.is_multiple_of(LANES);
        self.skipped = if has_whole_vectors {
            page_size
        } else {
            self.stride
        };
        self.scores_len = (self.stride + 2 * LANES).next_multiple_of(LANES);
        self.scores.resize(LANES * self.scores_len);
        self.weights.resize(LANES * self.scores_len);
        self.value_scales.resize(self.scores_len);
        self.queries.resize(LANES * head_dim);
        self.sums.resize(LANES * head_dim);
        self.last_values.resize(LANES * head_dim);
    }
}

/// One query head of one row.
#[derive(Clone, Copy)]
struct Query {
    row_idx: usize,
    head_idx: usize,
    /// The positions it sees, up to its own.
    first: usize,
    end: usize,
}

/// What the strides so far have of a query, beside its sums.
#[derive(Clone, Copy)]
struct SoFar<S: Simd> {
    /// What is taken from its scores: the greatest so far, less [`MARGIN`] at most.
    reference: f32,
    /// The sums of weights.
    total: S::F,
}

impl<S: Simd> SoFar<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self {
            reference: f32::NEG_INFINITY,
            total: s.splat(0.0),
        }
    }
}

/// Attention of an item.
pub(crate) struct ItemKernel<'a, T> {
    inputs: &'a Inputs<'a, T>,
    item: Item<'a>,
    /// What the thread does next.
    next: Option<Item<'a>>,
    out: &'a SharedSlice<'a, f32>,
    width: usize,
    scratch: &'a mut Scratch,
}

impl<T: Element> Kernel for ItemKernel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n_queries = self.item.n_rows * self.inputs.group_len();
        let mut first = 0;
        while first < n_queries {
            let n_left = n_queries - first;
            first += match n_left {
                6.. if S::IS_WIDE && !T::ARE_SQUARES => self.attend::<S, 6>(s, first),
                // As many as there are registers for, and as hide how long a product takes.
                4.. if S::TAKES_SEVERAL && !S::IS_WIDE => self.attend::<S, 4>(s, first),
                3.. if S::TAKES_SEVERAL => self.attend::<S, 3>(s, first),
                2.. if S::TAKES_SEVERAL => self.attend::<S, 2>(s, first),
                _ => self.attend::<S, 1>(s, first),
            };
        }
    }
}

impl<T: Element> ItemKernel<'_, T> {
    /// Queries are counted row by row, so that neighbours see nearly the same positions.
    #[inline(always)]
    fn query(&self, query_idx: usize) -> Query {
        let offset = self.item.first + query_idx / self.inputs.group_len();
        let position = self.item.span.start + offset;
        Query {
            row_idx: self.item.span.first_row + offset,
            head_idx: self.item.kv_head * self.inputs.group_len()
                + query_idx % self.inputs.group_len(),
            first: self.inputs.layer.first_seen(position),
            end: position + 1,
        }
    }

    /// Attention of `Q` queries from `first` on; returns their number.
    #[inline(always)]
    fn attend<S: Simd, const Q: usize>(&mut self, s: S, first: usize) -> usize {
        let queries: [Query; Q] = std::array::from_fn(|i| self.query(first + i));
        let mut sofar = [SoFar::new(s); Q];
        self.begin(s, &queries);
        for (start, end) in self.strides(&queries) {
            self.score::<S, Q>(s, start, end);
            self.collect_value_scales(start, end);
            self.weigh_each(s, (start, end), &queries, &mut sofar);
            self.add_values::<S, Q>(s, start, end);
        }
        self.finish(s, &queries, &sofar);
        Q
    }

    /// The strides that some queries see: the first sees what is first, the last what is last.
    #[inline(always)]
    fn strides(&self, queries: &[Query]) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let (stride, skipped) = (self.scratch.stride, self.scratch.skipped);
        let first = queries[0].first / skipped * skipped;
        let end = queries[queries.len() - 1].end;
        let next = move |start: usize| end.min(start / stride * stride + stride);
        std::iter::successors(Some((first, next(first))), move |&(_, start)| {
            (start < end).then(|| (start, next(start)))
        })
    }

    /// Takes queries that nothing has been computed of.
    #[inline(always)]
    fn begin<S: Simd>(&mut self, s: S, queries: &[Query]) {
        let head_dim = self.inputs.kv.shape.head_dim;
        self.scale_queries(s, queries);
        self.scratch.sums[..queries.len() * head_dim].fill(0.0);
    }

    /// [`Self::weigh`], of each query.
    #[inline(always)]
    fn weigh_each<S: Simd>(
        &mut self,
        s: S,
        (start, end): (usize, usize),
        queries: &[Query],
        sofar: &mut [SoFar<S>],
    ) {
        for (i, (query, sofar)) in queries.iter().zip(sofar).enumerate() {
            let seen = query.first.clamp(start, end) - start..query.end.clamp(start, end) - start;
            self.weigh(s, i, seen, end - start, sofar);
        }
    }

    /// Writes the weighted means.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, queries: &[Query], sofar: &[SoFar<S>]) {
        let head_dim = self.inputs.kv.shape.head_dim;
        for (i, (query, sofar)) in queries.iter().zip(sofar).enumerate() {
            let inverse = 1.0 / s.reduce_add(sofar.total);
            let at = query.row_idx * self.width + query.head_idx * head_dim;
            // SAFETY: items are split among the threads, and each writes its own rows' own heads.
            let out = unsafe { self.out.part_mut(at..at + head_dim) };
            for (out, sum) in out.iter_mut().zip(&self.scratch.sums[i * head_dim..]) {
                // A zero has no sign here: positions that a neighbour sees may have changed it.
                *out = sum * inverse + 0.0;
            }
        }
    }

    /// Rounds the scaled queries to what keys are multiplied by.
    #[inline(always)]
    fn scale_queries<S: Simd>(&mut self, s: S, queries: &[Query]) {
        let head_dim = self.inputs.kv.shape.head_dim;
        // Scores are powers of two; those that are capped become so afterwards.
        let layer = self.inputs.layer;
        let base = if layer.softcap.is_some() { 1.0 } else { LOG2_E };
        let scale = layer.scale * base;
        let Scratch {
            queries: targets,
            query_scales,
            ..
        } = &mut *self.scratch;
        let targets = targets.chunks_exact_mut(head_dim).zip(query_scales);
        for (query, (lanes, factor)) in queries.iter().zip(targets) {
            let row = self.inputs.x.row(query.row_idx);
            let head = &row[self.inputs.queries.first + query.head_idx * head_dim..][..head_dim];
            *factor = T::round_query(s, head, scale, lanes);
        }
    }

    /// Puts the scales of the values at positions `start..end` one after another.
    #[inline(always)]
    fn collect_value_scales(&mut self, start: usize, end: usize) {
        if !T::HAS_SCALES {
            return;
        }
        let page_size = self.inputs.kv.shape.page_size;
        let (layer_idx, kv_head) = (self.inputs.layer.idx, self.item.kv_head);
        let (collected, rest) = self.scratch.value_scales.split_at_mut(end - start);
        for (page_idx, target) in (start / page_size..).zip(collected.chunks_mut(page_size)) {
            let page = self.item.span.pages[page_idx];
            let [_, scales] = self.inputs.kv.scales(layer_idx, page, kv_head);
            target.copy_from_slice(&scales[..target.len()]);
        }
        // The last vector's other lanes have weights of zero, and nothing need have been written there.
        let n_lanes = rest.len().min(LANES);
        rest[..n_lanes].fill(0.0);
    }

    /// The scores of positions `start..end`, two vectors of sixteen at a time if there are registers for their sums. A page's
    /// last vector may run over; the next page, or the weighing, overwrites what it left.
    #[inline(always)]
    fn score<S: Simd, const Q: usize>(&mut self, s: S, start: usize, end: usize) {
        let shape = self.inputs.kv.shape;
        let n_slots_last = (end - start - 1) % shape.page_size + 1;
        let n_pages = (end - start).div_ceil(shape.page_size);
        let vectors_of = |page_idx: usize| {
            let is_last = page_idx + 1 == n_pages;
            (if is_last {
                n_slots_last
            } else {
                shape.page_size
            })
            .div_ceil(LANES)
        };
        let mut pending: Option<(usize, usize)> = None;
        for page_idx in 0..n_pages {
            for vector_idx in 0..vectors_of(page_idx) {
                match pending.take() {
                    None if !S::IS_WIDE => {
                        self.score_vectors::<S, Q, 1>(s, start, [(page_idx, vector_idx)]);
                    }
                    None => pending = Some((page_idx, vector_idx)),
                    Some(other) => {
                        self.score_vectors::<S, Q, 2>(s, start, [other, (page_idx, vector_idx)]);
                    }
                }
            }
        }
        if let Some(last) = pending {
            self.score_vectors::<S, Q, 1>(s, start, [last]);
        }
    }

    /// The keys and values that are fetched while those of a page are scored: a later page's or, behind the last, what the
    /// thread does next.
    #[inline(always)]
    fn ahead(&self, page_idx: usize) -> [&[T]; 2] {
        let span = &self.item.span;
        let n_pages = (span.start + span.n_rows).div_ceil(self.inputs.kv.shape.page_size);
        let (item, later) = match (page_idx + N_PAGES_AHEAD, &self.next) {
            (later, Some(next)) if later >= n_pages => (next, later - n_pages),
            (later, _) => (&self.item, later),
        };
        let page = item.span.pages.get(later).unwrap_or(&span.pages[page_idx]);
        let (kv, layer_idx) = (self.inputs.kv, self.inputs.layer.idx);
        [
            kv.keys(layer_idx, *page, item.kv_head),
            kv.values(layer_idx, *page, item.kv_head),
        ]
    }

    /// The scores of `P` vectors of positions, given as their page in the stride and their place in the page; in order.
    #[inline(always)]
    fn score_vectors<S: Simd, const Q: usize, const P: usize>(
        &mut self,
        s: S,
        start: usize,
        places: [(usize, usize); P],
    ) {
        let (layer_idx, kv_head) = (self.inputs.layer.idx, self.item.kv_head);
        let shape = self.inputs.kv.shape;
        let n_lines = shape.head_dim / T::N_TOGETHER;
        let line_len = T::N_TOGETHER * shape.n_lanes();
        let mut keys: [&[T]; P] = [&[]; P];
        let mut scales: [&[f32]; P] = [&[]; P];
        let mut ahead = [[std::ptr::null::<T>(); 2]; P];
        // What other queries of the item have just read is in the caches.
        let is_waiting = Q <= N_FEW && self.item.n_rows * self.inputs.group_len() <= N_FEW;
        for (p, (page_idx, vector_idx)) in places.into_iter().enumerate() {
            let page_idx = start / shape.page_size + page_idx;
            let page = self.item.span.pages[page_idx];
            let first = vector_idx * T::N_TOGETHER * LANES;
            keys[p] = &self.inputs.kv.keys(layer_idx, page, kv_head)[first..];
            if T::HAS_SCALES {
                scales[p] =
                    &self.inputs.kv.scales(layer_idx, page, kv_head)[0][vector_idx * LANES..];
            }
            if is_waiting {
                let [keys, values] = self.ahead(page_idx).map(<[T]>::as_ptr);
                ahead[p] = [
                    keys.wrapping_add(first),
                    values.wrapping_add(first * n_lines),
                ];
            }
        }
        let Scratch {
            scores,
            scores_len,
            queries,
            query_scales,
            ..
        } = &mut *self.scratch;
        let queries: [&[i32]; Q] =
            std::array::from_fn(|i| &queries[i * shape.head_dim..][..n_lines]);
        let mut sums = [[T::no_sums(s); P]; Q];
        for line_idx in 0..n_lines {
            let mut vectors = [T::no_factors(s); P];
            for p in 0..P {
                vectors[p] = T::load(s, &keys[p][line_idx * line_len..]);
                if is_waiting {
                    // As many lines of each as are read here and will be of values.
                    let [keys, values] = ahead[p];
                    simd::prefetch(keys.wrapping_add(line_idx * line_len).cast());
                    simd::prefetch(values.wrapping_add(line_idx * T::N_TOGETHER * LANES).cast());
                }
            }
            add_each::<T, S, P, Q>(s, &mut sums, vectors, |q| queries[q][line_idx]);
            if line_idx % N_CHAINED_KEYS == N_CHAINED_KEYS - 1 {
                end_chains::<T, S, P, Q>(s, &mut sums);
            }
        }
        for (p, (page_idx, vector_idx)) in places.into_iter().enumerate() {
            let at = page_idx * shape.page_size + vector_idx * LANES;
            for (q, sums) in sums.iter().enumerate() {
                let target = scores[q * *scores_len + at..].first_chunk_mut();
                s.store(
                    T::scores(s, sums[p], query_scales[q], scales[p]),
                    target.expect("room for one vector more"),
                );
            }
        }
    }

    /// Turns a query's scores into weights: 2^(score - reference), zero beyond what it sees.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        s: S,
        query_idx: usize,
        seen: Range<usize>,
        n_scores: usize,
        sofar: &mut SoFar<S>,
    ) {
        let head_dim = self.inputs.kv.shape.head_dim;
        let SoFar { reference, total } = sofar;
        let Scratch {
            scores,
            scores_len,
            weights,
            weight_scales,
            value_scales,
            sums,
            ..
        } = &mut *self.scratch;
        let scores = &mut scores[query_idx * *scores_len..][..*scores_len];
        let weights = &mut weights[query_idx * *scores_len..][..*scores_len];
        // Lanes of a vector's weights.
        let n_lanes = LANES / T::N_TOGETHER;
        let of_vectors = seen.start / LANES..seen.end.div_ceil(LANES);
        clear(&mut weights[..of_vectors.start * n_lanes]);
        clear(&mut weights[of_vectors.end * n_lanes..n_scores.div_ceil(LANES) * n_lanes]);
        weight_scales[query_idx] = 0.0;
        let weights = &mut weights[of_vectors.start * n_lanes..of_vectors.end * n_lanes];
        if seen.is_empty() {
            return clear(weights);
        }
        let value_scales = &value_scales[of_vectors.start * LANES..of_vectors.end * LANES];
        let (value_scales, _) = value_scales.as_chunks::<LANES>();
        let vectors = cap_and_mask(s, self.inputs.layer.softcap, scores, &seen);
        let found = greatest(s, vectors);
        if found > *reference + MARGIN {
            if *reference > f32::NEG_INFINITY {
                let mut factor = [0.0; LANES];
                s.store(s.exp2(s.splat(*reference - found)), &mut factor);
                *total = s.mul(*total, s.splat(factor[0]));
                rescale(&mut sums[query_idx * head_dim..][..head_dim], factor[0]);
            }
            *reference = found;
        }
        let (shift, mut sum) = (s.splat(-*reference), *total);
        let of_each = weights.chunks_exact_mut(n_lanes).zip(value_scales);
        for (vector, (weights, value_scales)) in vectors.iter_mut().zip(of_each) {
            let weight = s.exp2(s.add(s.load(vector), shift));
            sum = s.add(sum, weight);
            if T::HAS_SCALES {
                s.store(s.mul(weight, s.load(value_scales)), vector);
            } else {
                T::round_weights(s, weight, weights);
            }
        }
        if T::HAS_SCALES {
            weight_scales[query_idx] = T::round_scaled_weights(s, vectors, weights);
        }
        *total = sum;
    }

    /// Adds the weighted values of positions `start..end`, up to four vectors of a head at a time.
    #[inline(always)]
    fn add_values<S: Simd, const Q: usize>(&mut self, s: S, start: usize, end: usize) {
        let n_vectors = self.inputs.kv.shape.head_dim / LANES;
        let mut vector_idx = 0;
        while S::IS_WIDE && !T::ARE_SQUARES && vector_idx + 4 <= n_vectors {
            self.add_value_vectors::<S, Q, 4>(s, start, end, vector_idx);
            vector_idx += 4;
        }
        // Each sum is three in squares.
        while S::IS_WIDE && T::ARE_SQUARES && vector_idx + 2 <= n_vectors {
            self.add_value_vectors::<S, Q, 2>(s, start, end, vector_idx);
            vector_idx += 2;
        }
        while vector_idx < n_vectors {
            self.add_value_vectors::<S, Q, 1>(s, start, end, vector_idx);
            vector_idx += 1;
        }
    }

    #[inline(always)]
    fn add_value_vectors<S: Simd, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        start: usize,
        end: usize,
        vector_idx: usize,
    ) {
        let (layer_idx, kv_head) = (self.inputs.layer.idx, self.item.kv_head);
        let shape = self.inputs.kv.shape;
        let head_dim = shape.head_dim;
        let Scratch {
            scores_len,
            weights,
            weight_scales,
            sums,
            ..
        } = &mut *self.scratch;
        let mut lanes = [[T::no_sums(s); V]; Q];
        for q in 0..Q {
            let (vectors, _) = sums[q * head_dim..][..head_dim].as_chunks::<LANES>();
            for v in 0..V {
                lanes[q][v] = T::begin(s, s.load(&vectors[vector_idx + v]));
            }
        }
        let weights: [&[i32]; Q] =
            std::array::from_fn(|q| &weights[q * *scores_len..][..*scores_len]);
        for page_start in (start..end).step_by(shape.page_size) {
            let page = self.item.span.pages[page_start / shape.page_size];
            let values = self.inputs.kv.values(layer_idx, page, kv_head);
            let n_slots = shape.page_size.min(end - page_start);
            let first = page_start - start;
            let page = PageValues {
                runs: values.chunks_exact(T::N_TOGETHER * head_dim),
                n_slots,
                weights: weights.map(|weights| &weights[first / T::N_TOGETHER..]),
            };
            if first.is_multiple_of(T::N_TOGETHER) {
                page.add::<S, V, false>(s, vector_idx, &mut lanes);
            } else {
                page.add::<S, V, true>(s, vector_idx, &mut lanes);
            }
        }
        for q in 0..Q {
            let (vectors, _) = sums[q * head_dim..][..head_dim].as_chunks_mut::<LANES>();
            for v in 0..V {
                let so_far = &mut vectors[vector_idx + v];
                s.store(
                    T::end(s, lanes[q][v], s.load(so_far), weight_scales[q]),
                    so_far,
                );
            }
        }
    }
}

/// The values of a page, a run of what a product takes together after another, and the lanes of `Q` queries' weights from its
/// first position on.
struct PageValues<'a, T, const Q: usize> {
    runs: ChunksExact<'a, T>,
    n_slots: usize,
    weights: [&'a [i32]; Q],
}

impl<T: Element, const Q: usize> PageValues<'_, T, Q> {
    /// Adds `V` vectors' weighted values. Where weights are pairs, those of a page begin with the second of one (`IS_ODD`) if pages
    /// before it are of an odd size.
    #[inline(always)]
    fn add<S: Simd, const V: usize, const IS_ODD: bool>(
        self,
        s: S,
        vector_idx: usize,
        lanes: &mut [[T::Sums<S>; V]; Q],
    ) {
        let n_runs = self.n_slots.div_ceil(T::N_TOGETHER);
        let mut weights = self.weights;
        for weights in &mut weights {
            *weights = &weights[..n_runs + usize::from(IS_ODD)];
        }
        for (run_idx, run) in self.runs.take(n_runs).enumerate() {
            let mut vectors = [T::no_factors(s); V];
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = T::load(s, &run[T::N_TOGETHER * (vector_idx + v) * LANES..]);
                if T::N_TOGETHER * (run_idx + 1) > self.n_slots {
                    // Nothing need have been written there.
                    *vector = T::first_alone(s, *vector);
                }
            }
            add_each::<T, S, V, Q>(s, lanes, vectors, |q| {
                let weight = weights[q][run_idx];
                if IS_ODD {
                    weight >> 16 & 0xffff | weights[q][run_idx + 1] << 16
                } else {
                    weight
                }
            });
            if run_idx % N_CHAINED_VALUES == N_CHAINED_VALUES - 1 || run_idx + 1 == n_runs {
                end_chains::<T, S, V, Q>(s, lanes);
            }
        }
    }
}

/// Adds the products of some vectors with each query's factors.
#[inline(always)]
fn add_each<T: Element, S: Simd, const N: usize, const Q: usize>(
    s: S,
    sums: &mut [[T::Sums<S>; N]; Q],
    vectors: [T::Factors<S>; N],
    factors: impl Fn(usize) -> i32,
) {
    for (q, sums) in sums.iter_mut().enumerate() {
        let factors = T::splat(s, factors(q));
        for n in 0..N {
            sums[n] = T::add_products(s, sums[n], vectors[n], factors);
        }
    }
}

/// Ends the chains of all sums, see [`Element::end_chains`].
#[inline(always)]
fn end_chains<T: Element, S: Simd, const N: usize, const Q: usize>(
    s: S,
    sums: &mut [[T::Sums<S>; N]; Q],
) {
    for sums in sums {
        for sum in sums {
            *sum = T::end_chains(s, *sum);
        }
    }
}

/// Caps the scores that a query sees and takes those beside them out of the running; gives the vectors that hold them.
#[inline(always)]
fn cap_and_mask<'s, S: Simd>(
    s: S,
    cap: Option<f32>,
    scores: &'s mut [f32],
    seen: &Range<usize>,
) -> &'s mut [[f32; LANES]] {
    let (vectors, _) = scores.as_chunks_mut::<LANES>();
    let vectors = &mut vectors[seen.start / LANES..seen.end.div_ceil(LANES)];
    if let Some(cap) = cap {
        for vector in &mut *vectors {
            let capped = softcap(s, s.load(vector), cap);
            s.store(s.mul(capped, s.splat(LOG2_E)), vector);
        }
    }
    let lanes = vectors.as_flattened_mut();
    let first = seen.start % LANES;
    lanes[..first].fill(f32::NEG_INFINITY);
    lanes[first + seen.len()..].fill(f32::NEG_INFINITY);
    vectors
}

/// The greatest of some numbers; vectors are not one chain, whose links would wait for each other.
#[inline(always)]
fn greatest<S: Simd>(s: S, vectors: &[[f32; LANES]]) -> f32 {
    let mut lanes = [s.splat(f32::NEG_INFINITY); 4];
    let (fours, rest) = vectors.as_chunks::<4>();
    for four in fours {
        for i in 0..4 {
            lanes[i] = s.max(lanes[i], s.load(&four[i]));
        }
    }
    for vector in rest {
        lanes[0] = s.max(lanes[0], s.load(vector));
    }
    s.reduce_max(s.max(s.max(lanes[0], lanes[1]), s.max(lanes[2], lanes[3])))
}

/// Zeros, which are few and mostly none: not worth a call then.
#[inline(always)]
fn clear(weights: &mut [i32]) {
    if !weights.is_empty() {
        weights.fill(0);
    }
}

/// 2^-103: greater sums are whole multiples of 2^-126, as the products of bf16 want them (see `round`).
const LEAST_SUM: f32 = f32::from_bits((127 - 103) << 23);

/// Scales sums of values.
#[inline(always)]
fn rescale(sums: &mut [f32], factor: f32) {
    for sum in sums {
        let scaled = *sum * factor;
        *sum = if scaled.abs() < LEAST_SUM {
            0.0
        } else {
            scaled
        };
    }
}
