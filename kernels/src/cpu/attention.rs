//! Causal attention over pages, with the softmax taken online; [`element`] says how stored numbers are multiplied.
//!
//! Positions are taken in *strides*, a fixed number of whole pages of at least 128 positions, counted from position 0:
//! within a stride all scores, then their maximum, then the weighted values in ascending order; between strides the sums
//! so far are rescaled (Milakov and Gimelshein 2018). Scores are in units of ln 2, so that weights are powers of two.
//! What a query computes depends on its own position and on nothing else.
//!
//! Strides are the outer loop and a work item's queries the inner one, so a stride's keys and values come once for all of
//! them. Neighbours in a batch whose block tables begin alike, branches of a fork, make an item together ([`Item`]): they
//! attend to what they share in one go, and then each to its own (a cascade).

mod element;
mod items;

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::Vectors;
use super::elementwise::softcap;
use super::upcoming::Upcoming;
use crate::buffer::Buffer;
use crate::kv::KvPool;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, Kernel, LANES, Simd};
use crate::{AttentionLayer, AttentionSpan, Heads};
pub(crate) use element::{CODES_LIMITS, Element};
use items::{Item, items, stride};

/// Queries that read keys and values together, at most.
const N_QUERIES: usize = 6;
/// Queries that are too few to hide how long keys and values take to come.
const N_FEW: usize = 3;
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
        // Later rows see more positions: dealing items out in turn shares the long ones too.
        let mut items = items(inputs, n_threads).skip(thread_idx).step_by(n_threads);
        let mut next = items.next();
        while let Some(item) = next {
            next = items.next();
            if item.first == 0 {
                for pages in item.pages(inputs) {
                    upcoming.note(inputs.kv, inputs.layer.idx, item.kv_head, pages);
                }
            }
            vectors.run(ItemKernel {
                inputs,
                item,
                next,
                out: &out,
                width,
                scratch,
            });
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
    /// `[N_QUERIES, scores_len]`.
    scores: Vec<f32>,
    /// What the scores become, a lane for what a product takes together: `[N_QUERIES, scores_len]`, not all of it used.
    weights: Vec<i32>,
    /// What a query's weights are to be multiplied by. `[N_QUERIES]`
    weight_scales: [f32; N_QUERIES],
    /// Scales of the stride's values, where they have some: `[scores_len]`.
    value_scales: Vec<f32>,
    /// All queries of an item, already scaled, in lanes like the weights: `[n_queries, head_dim]`.
    queries: Vec<i32>,
    /// Their weighted sums of values: `[n_queries, head_dim]`.
    sums: Vec<f32>,
    /// And what else is known of them. `[n_queries]`
    states: Vec<State>,
}

/// A query's softmax so far.
#[derive(Clone, Copy)]
struct State {
    /// What the query's elements are to be multiplied by.
    scale: f32,
    /// The greatest score.
    largest: f32,
    /// Sums of the weights, to be added up.
    totals: [f32; LANES],
}

impl Scratch {
    /// Makes room for a model's shape.
    fn fit<T: Element>(&mut self, inputs: &Inputs<'_, T>) {
        let page_size = inputs.kv.shape.page_size;
        self.stride = stride(page_size);
        let has_whole_vectors = page_size.is_multiple_of(LANES);
        self.skipped = if has_whole_vectors {
            page_size
        } else {
            self.stride
        };
        self.scores_len = (self.stride + 2 * LANES).next_multiple_of(LANES);
        self.scores.resize(N_QUERIES * self.scores_len, 0.0);
        self.weights.resize(N_QUERIES * self.scores_len, 0);
        self.value_scales.resize(self.scores_len, 0.0);
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

struct ItemKernel<'a, T> {
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
        let group_len = self.group_len();
        let n_queries = self.item.n_rows * group_len;
        self.begin(s, n_queries);
        let Item {
            spans, n_shared, ..
        } = self.item;
        self.attend(s, 0..n_queries, spans[0].pages, 0..n_shared);
        if let [span] = spans {
            self.attend(s, 0..n_queries, span.pages, 0..usize::MAX);
        } else {
            for (i, span) in spans.iter().enumerate() {
                let own = i * group_len..(i + 1) * group_len;
                self.attend(s, own, span.pages, n_shared..usize::MAX);
            }
        }
        self.finish(s, n_queries);
    }
}

impl<T: Element> ItemKernel<'_, T> {
    /// Query heads that share one key head.
    #[inline(always)]
    fn group_len(&self) -> usize {
        self.inputs.queries.n_heads / self.inputs.kv.shape.n_kv_heads
    }

    /// Queries are counted row by row, so that neighbours see nearly the same positions.
    #[inline(always)]
    fn query(&self, query_idx: usize) -> Query {
        let (row_idx, position) = self.item.row(query_idx / self.group_len());
        Query {
            row_idx,
            head_idx: self.item.kv_head * self.group_len() + query_idx % self.group_len(),
            first: self.inputs.layer.first_seen(position),
            end: position + 1,
        }
    }

    /// Attention of some queries to those positions among `among` that they see, which lie in `pages`.
    #[inline(always)]
    fn attend<S: Simd>(&mut self, s: S, queries: Range<usize>, pages: &[u32], among: Range<usize>) {
        let seen = queries.clone().map(|i| self.query(i));
        let (firsts, ends) = (seen.clone().map(|q| q.first), seen.map(|q| q.end));
        let end = ends.max().unwrap_or(0).min(among.end);
        let start = firsts.min().unwrap_or(0).max(among.start);
        let pages = &pages[..end.div_ceil(self.inputs.kv.shape.page_size)];
        let stride = self.scratch.stride;
        for start in (start / stride * stride..end).step_by(stride) {
            let end = end.min(start + stride);
            let mut first = queries.start;
            while first < queries.end {
                let n_left = queries.end - first;
                let n_left = if S::IS_WIDE { n_left } else { n_left.min(2) };
                first += match n_left {
                    6.. => self.step::<S, 6>(s, first, pages, start..end),
                    3.. => self.step::<S, 3>(s, first, pages, start..end),
                    2 => self.step::<S, 2>(s, first, pages, start..end),
                    _ => self.step::<S, 1>(s, first, pages, start..end),
                };
            }
        }
    }

    /// Attention of `Q` queries from `first` on to what they see of a stride; returns their number.
    #[inline(always)]
    fn step<S: Simd, const Q: usize>(
        &mut self,
        s: S,
        first: usize,
        pages: &[u32],
        stride: Range<usize>,
    ) -> usize {
        let queries: [Query; Q] = std::array::from_fn(|i| self.query(first + i));
        let skipped = self.scratch.skipped;
        let (mut start, mut end) = (usize::MAX, 0);
        for query in &queries {
            (start, end) = (start.min(query.first), end.max(query.end));
        }
        let start = stride.start.max(start / skipped * skipped);
        let end = stride.end.min(end);
        if start < end {
            self.score::<S, Q>(s, first, pages, start..end);
            self.collect_value_scales(pages, start..end);
            for (i, query) in queries.iter().enumerate() {
                let seen =
                    query.first.clamp(start, end) - start..query.end.clamp(start, end) - start;
                self.weigh(s, first, i, seen, end - start);
            }
            self.add_values::<S, Q>(s, first, pages, start..end);
        }
        Q
    }

    /// Rounds the scaled queries to what keys are multiplied by; nothing has been seen yet.
    #[inline(always)]
    fn begin<S: Simd>(&mut self, s: S, n_queries: usize) {
        let head_dim = self.inputs.kv.shape.head_dim;
        // Scores are powers of two; those that are capped become so afterwards.
        let layer = self.inputs.layer;
        let base = if layer.softcap.is_some() { 1.0 } else { LOG2_E };
        let scale = layer.scale * base;
        self.scratch.queries.resize(n_queries * head_dim, 0);
        self.scratch.sums.clear();
        self.scratch.sums.resize(n_queries * head_dim, 0.0);
        self.scratch.states.clear();
        for query_idx in 0..n_queries {
            let query = self.query(query_idx);
            let row = self.inputs.x.row(query.row_idx);
            let head = &row[self.inputs.queries.first + query.head_idx * head_dim..][..head_dim];
            let lanes = &mut self.scratch.queries[query_idx * head_dim..][..head_dim];
            self.scratch.states.push(State {
                scale: T::round_query(s, head, scale, lanes),
                largest: f32::NEG_INFINITY,
                totals: [0.0; LANES],
            });
        }
    }

    /// Writes what the queries found.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, n_queries: usize) {
        let head_dim = self.inputs.kv.shape.head_dim;
        for query_idx in 0..n_queries {
            let query = self.query(query_idx);
            let inverse = 1.0 / s.reduce_add(s.load(&self.scratch.states[query_idx].totals));
            let at = query.row_idx * self.width + query.head_idx * head_dim;
            // SAFETY: items are split among the threads, and each writes its own rows' own heads.
            let out = unsafe { self.out.part_mut(at..at + head_dim) };
            for (out, sum) in out
                .iter_mut()
                .zip(&self.scratch.sums[query_idx * head_dim..])
            {
                // A zero has no sign here: positions that a neighbour sees may have changed it.
                *out = sum * inverse + 0.0;
            }
        }
    }

    /// Puts the scales of the values at some positions one after another.
    #[inline(always)]
    fn collect_value_scales(&mut self, pages: &[u32], Range { start, end }: Range<usize>) {
        if !T::HAS_SCALES {
            return;
        }
        let page_size = self.inputs.kv.shape.page_size;
        let (layer_idx, kv_head) = (self.inputs.layer.idx, self.item.kv_head);
        let (collected, rest) = self.scratch.value_scales.split_at_mut(end - start);
        for (page_idx, target) in (start / page_size..).zip(collected.chunks_mut(page_size)) {
            let [_, scales] = self.inputs.kv.scales(layer_idx, pages[page_idx], kv_head);
            target.copy_from_slice(&scales[..target.len()]);
        }
        // The last vector's other lanes have weights of zero, and nothing need have been written there.
        let n_lanes = rest.len().min(LANES);
        rest[..n_lanes].fill(0.0);
    }

    /// The scores of some positions, two vectors of sixteen at a time. A page's last vector may run over; the
    /// next page, or the weighing, overwrites what it left.
    #[inline(always)]
    fn score<S: Simd, const Q: usize>(
        &mut self,
        s: S,
        first: usize,
        pages: &[u32],
        Range { start, end }: Range<usize>,
    ) {
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
        let pages = &pages[start / shape.page_size..];
        let mut pending: Option<(usize, usize)> = None;
        for page_idx in 0..n_pages {
            for vector_idx in 0..vectors_of(page_idx) {
                match pending.take() {
                    None => pending = Some((page_idx, vector_idx)),
                    Some(other) => {
                        let places = [other, (page_idx, vector_idx)];
                        self.score_vectors::<S, Q, 2>(s, first, pages, places);
                    }
                }
            }
        }
        if let Some(last) = pending {
            self.score_vectors::<S, Q, 1>(s, first, pages, [last]);
        }
    }

    /// The keys and values that are fetched while those of one of the pages are scored: a later one's or, behind the last,
    /// what the thread does next.
    #[inline(always)]
    fn ahead(&self, pages: &[u32], page_idx: usize) -> [&[T]; 2] {
        let later = page_idx + N_PAGES_AHEAD;
        let (page, kv_head) = match (pages.get(later), &self.next) {
            (None, Some(next)) => (next.spans[0].pages.get(later - pages.len()), next.kv_head),
            (page, _) => (page, self.item.kv_head),
        };
        let page = *page.unwrap_or(&pages[page_idx]);
        let (kv, layer_idx) = (self.inputs.kv, self.inputs.layer.idx);
        [
            kv.keys(layer_idx, page, kv_head),
            kv.values(layer_idx, page, kv_head),
        ]
    }

    /// The scores of `P` vectors of positions, given as one of the pages and their place in it; in order.
    #[inline(always)]
    fn score_vectors<S: Simd, const Q: usize, const P: usize>(
        &mut self,
        s: S,
        first: usize,
        pages: &[u32],
        places: [(usize, usize); P],
    ) {
        let (layer_idx, kv_head) = (self.inputs.layer.idx, self.item.kv_head);
        let shape = self.inputs.kv.shape;
        let n_lines = shape.head_dim / T::N_TOGETHER;
        let line_len = T::N_TOGETHER * shape.n_lanes();
        let mut keys: [&[T]; P] = [&[]; P];
        let mut scales: [&[f32]; P] = [&[]; P];
        let mut ahead = [[std::ptr::null::<T>(); 2]; P];
        for (p, (page_idx, vector_idx)) in places.into_iter().enumerate() {
            let page = pages[page_idx];
            let at = vector_idx * T::N_TOGETHER * LANES;
            keys[p] = &self.inputs.kv.keys(layer_idx, page, kv_head)[at..];
            if T::HAS_SCALES {
                scales[p] =
                    &self.inputs.kv.scales(layer_idx, page, kv_head)[0][vector_idx * LANES..];
            }
            if Q <= N_FEW {
                let [keys, values] = self.ahead(pages, page_idx).map(<[T]>::as_ptr);
                ahead[p] = [keys.wrapping_add(at), values.wrapping_add(at * n_lines)];
            }
        }
        let Scratch {
            scores,
            scores_len,
            queries,
            states,
            ..
        } = &mut *self.scratch;
        let queries: [&[i32]; Q] =
            std::array::from_fn(|i| &queries[(first + i) * shape.head_dim..][..n_lines]);
        let query_scales: [f32; Q] = std::array::from_fn(|i| states[first + i].scale);
        let mut sums = [[T::no_sums(s); P]; Q];
        for line_idx in 0..n_lines {
            let mut vectors = [T::no_factors(s); P];
            for p in 0..P {
                vectors[p] = T::load(s, &keys[p][line_idx * line_len..]);
                if Q <= N_FEW {
                    // As many lines of each as are read here and will be of values.
                    let [keys, values] = ahead[p];
                    simd::prefetch(keys.wrapping_add(line_idx * line_len).cast());
                    simd::prefetch(values.wrapping_add(line_idx * T::N_TOGETHER * LANES).cast());
                }
            }
            for q in 0..Q {
                let query = T::splat(s, queries[q][line_idx]);
                for p in 0..P {
                    sums[q][p] = T::add_products(s, sums[q][p], vectors[p], query);
                }
            }
        }
        for (p, (page_idx, vector_idx)) in places.into_iter().enumerate() {
            let at = page_idx * shape.page_size + vector_idx * LANES;
            for q in 0..Q {
                let target = &mut scores[q * *scores_len + at..];
                let target = target.first_chunk_mut().expect("room for one vector more");
                s.store(T::scores(s, sums[q][p], query_scales[q], scales[p]), target);
            }
        }
    }

    /// Turns the scores of the `idx`-th query from `first` on into weights: 2^(score - largest), zero beyond what it sees.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        s: S,
        first: usize,
        idx: usize,
        seen: Range<usize>,
        n_scores: usize,
    ) {
        let head_dim = self.inputs.kv.shape.head_dim;
        let Scratch {
            scores,
            scores_len,
            weights,
            weight_scales,
            value_scales,
            sums,
            states,
            ..
        } = &mut *self.scratch;
        let state = &mut states[first + idx];
        let scores = &mut scores[idx * *scores_len..][..*scores_len];
        let weights = &mut weights[idx * *scores_len..][..*scores_len];
        // Lanes of a vector's weights.
        let n_lanes = LANES / T::N_TOGETHER;
        let of_vectors = seen.start / LANES..seen.end.div_ceil(LANES);
        weights[..of_vectors.start * n_lanes].fill(0);
        weights[of_vectors.end * n_lanes..n_scores.div_ceil(LANES) * n_lanes].fill(0);
        weight_scales[idx] = 0.0;
        if seen.is_empty() {
            weights[of_vectors.start * n_lanes..of_vectors.end * n_lanes].fill(0);
            return;
        }
        let weights = &mut weights[of_vectors.start * n_lanes..of_vectors.end * n_lanes];
        let value_scales = &value_scales[of_vectors.start * LANES..of_vectors.end * LANES];
        let (value_scales, _) = value_scales.as_chunks::<LANES>();
        let vectors = cap_and_mask(s, self.inputs.layer.softcap, scores, &seen);
        let mut lanes = s.splat(f32::NEG_INFINITY);
        for vector in vectors.iter() {
            lanes = s.max(lanes, s.load(vector));
        }
        let found = s.reduce_max(lanes).max(state.largest);
        let mut total = s.load(&state.totals);
        if found > state.largest {
            let mut factor = [0.0; LANES];
            s.store(s.exp2(s.splat(state.largest - found)), &mut factor);
            total = s.mul(total, s.splat(factor[0]));
            rescale(&mut sums[(first + idx) * head_dim..][..head_dim], factor[0]);
            state.largest = found;
        }
        let shift = s.splat(-state.largest);
        for (i, (vector_idx, vector)) in of_vectors.zip(vectors.iter_mut()).enumerate() {
            let mut weight = s.exp2(s.add(s.load(vector), shift));
            // The exponential of what is not seen is tiny, not zero.
            let at = vector_idx * LANES;
            if at < seen.start || seen.end < at + LANES {
                s.store(weight, vector);
                vector[..seen.start.saturating_sub(at)].fill(0.0);
                vector[LANES.min(seen.end - at)..].fill(0.0);
                weight = s.load(vector);
            }
            total = s.add(total, weight);
            if T::HAS_SCALES {
                s.store(s.mul(weight, s.load(&value_scales[i])), vector);
            } else {
                T::round_weights(s, weight, &mut weights[i * n_lanes..][..n_lanes]);
            }
        }
        if T::HAS_SCALES {
            weight_scales[idx] = T::round_scaled_weights(s, vectors, weights);
        }
        s.store(total, &mut state.totals);
    }

    /// Adds the weighted values of some positions, up to four vectors of a head at a time.
    #[inline(always)]
    fn add_values<S: Simd, const Q: usize>(
        &mut self,
        s: S,
        first: usize,
        pages: &[u32],
        positions: Range<usize>,
    ) {
        let n_vectors = self.inputs.kv.shape.head_dim / LANES;
        let mut idx = 0;
        while S::IS_WIDE && idx + 4 <= n_vectors {
            self.add_value_vectors::<S, Q, 4>(s, (first, idx), pages, positions.clone());
            idx += 4;
        }
        while idx < n_vectors {
            self.add_value_vectors::<S, Q, 1>(s, (first, idx), pages, positions.clone());
            idx += 1;
        }
    }

    #[inline(always)]
    fn add_value_vectors<S: Simd, const Q: usize, const V: usize>(
        &mut self,
        s: S,
        (first_query, vector_idx): (usize, usize),
        pages: &[u32],
        Range { start, end }: Range<usize>,
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
        let sums = &mut sums[first_query * head_dim..][..Q * head_dim];
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
            let page = pages[page_start / shape.page_size];
            let values = self.inputs.kv.values(layer_idx, page, kv_head);
            let n_slots = shape.page_size.min(end - page_start);
            let first = page_start - start;
            for run_idx in 0..n_slots.div_ceil(T::N_TOGETHER) {
                let slot = T::N_TOGETHER * run_idx;
                let mut vectors = [T::no_factors(s); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    let at = slot * head_dim + T::N_TOGETHER * (vector_idx + v) * LANES;
                    *vector = T::load(s, &values[at..]);
                    if slot + T::N_TOGETHER > n_slots {
                        // Nothing need have been written there.
                        *vector = T::first_alone(s, *vector);
                    }
                }
                for q in 0..Q {
                    let weight = T::splat(s, weight_at::<T>(weights[q], first + slot));
                    for v in 0..V {
                        lanes[q][v] = T::add_products(s, lanes[q][v], vectors[v], weight);
                    }
                }
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

/// Scales sums of values.
#[inline(always)]
fn rescale(sums: &mut [f32], factor: f32) {
    for sum in sums {
        let scaled = *sum * factor;
        // The products take no denormal sums.
        *sum = if scaled.abs() < f32::MIN_POSITIVE {
            0.0
        } else {
            scaled
        };
    }
}

/// The lane of weights from a position on. Of a pair, the first may be an odd one: pages of an odd size begin there too.
#[inline(always)]
fn weight_at<T: Element>(weights: &[i32], first: usize) -> i32 {
    let lane_idx = first / T::N_TOGETHER;
    if first.is_multiple_of(T::N_TOGETHER) {
        weights[lane_idx]
    } else {
        weights[lane_idx] >> 16 & 0xffff | weights[lane_idx + 1] << 16
    }
}
