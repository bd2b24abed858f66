//! Causal attention over pages, with the softmax taken online.
//!
//! Positions are taken in *strides*, a fixed number of whole pages of at least 128 positions, counted
//! from position 0: within a stride all scores, then their maximum, then the weighted values in
//! ascending order; between strides the sums so far are rescaled (Milakov and Gimelshein 2018). What
//! a query computes depends on its own position and on nothing else.

use half::f16;

use super::Vectors;
use crate::buffer::Buffer;
use crate::kv::KvPool;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, LANES, Simd};
use crate::{AttentionSpan, Heads};

/// The least number of positions of a stride.
const MIN_STRIDE: usize = 128;
/// Rows of a work item.
const N_ROWS: usize = 8;

/// What attention reads.
pub(crate) struct Inputs<'a> {
    pub(crate) kv: &'a KvPool<f16>,
    pub(crate) layer_idx: usize,
    pub(crate) x: &'a Buffer,
    pub(crate) queries: Heads,
    pub(crate) spans: &'a [AttentionSpan<'a>],
}

/// One key head and some rows of one span.
struct Item<'a> {
    span: AttentionSpan<'a>,
    kv_head: usize,
    first: usize,
    n_rows: usize,
}

/// Fills `out`, `[n_rows, n_heads * head_dim]`.
pub(crate) fn attention(pool: &mut Pool, vectors: Vectors, inputs: &Inputs<'_>, out: &mut Buffer) {
    let width = out.width();
    let out = SharedSlice::new(out.resize(inputs.x.n_rows()));
    let n_threads = pool.n_threads();
    pool.run(&|thread_idx| {
        let mut scratch = Scratch::new(inputs);
        // Later rows see more positions: dealing items out in turn shares the long ones too.
        for item in items(inputs).skip(thread_idx).step_by(n_threads) {
            vectors.run(ItemKernel {
                inputs,
                item,
                out: &out,
                width,
                scratch: &mut scratch,
            });
        }
    });
}

fn items<'a>(inputs: &'a Inputs<'a>) -> impl Iterator<Item = Item<'a>> {
    inputs.spans.iter().flat_map(move |&span| {
        (0..span.n_rows).step_by(N_ROWS).flat_map(move |first| {
            let n_rows = N_ROWS.min(span.n_rows - first);
            (0..inputs.kv.shape.n_kv_heads).map(move |kv_head| Item {
                span,
                kv_head,
                first,
                n_rows,
            })
        })
    })
}

/// A thread's own memory, for up to four queries.
struct Scratch {
    /// Positions of a stride.
    stride: usize,
    /// Elements of one query's scores: a stride and one vector.
    scores_len: usize,
    /// `[4, scores_len]`.
    scores: Vec<f32>,
    /// `[4, head_dim]`: queries, already scaled.
    queries: Vec<f32>,
    /// `[4, head_dim]`: weighted sums of values.
    sums: Vec<f32>,
}

impl Scratch {
    fn new(inputs: &Inputs<'_>) -> Self {
        let page_size = inputs.kv.shape.page_size;
        let stride = page_size * MIN_STRIDE.div_ceil(page_size);
        let scores_len = (stride + LANES).next_multiple_of(LANES);
        let head_dim = inputs.kv.shape.head_dim;
        Self {
            stride,
            scores_len,
            scores: vec![0.0; 4 * scores_len],
            queries: vec![0.0; 4 * head_dim],
            sums: vec![0.0; 4 * head_dim],
        }
    }
}

/// One query head of one row.
#[derive(Clone, Copy)]
struct Query {
    row_idx: usize,
    head_idx: usize,
    /// Positions it sees.
    n_positions: usize,
}

struct ItemKernel<'a> {
    inputs: &'a Inputs<'a>,
    item: Item<'a>,
    out: &'a SharedSlice<'a, f32>,
    width: usize,
    scratch: &'a mut Scratch,
}

impl Kernel for ItemKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n_queries = self.item.n_rows * self.group_len();
        let mut query_idx = 0;
        while query_idx + 4 <= n_queries {
            self.attend::<S, 4>(s, query_idx);
            query_idx += 4;
        }
        match n_queries - query_idx {
            3 => self.attend::<S, 3>(s, query_idx),
            2 => self.attend::<S, 2>(s, query_idx),
            1 => self.attend::<S, 1>(s, query_idx),
            _ => {}
        }
    }
}

impl ItemKernel<'_> {
    /// Query heads that share one key head.
    #[inline(always)]
    fn group_len(&self) -> usize {
        self.inputs.queries.n_heads / self.inputs.kv.shape.n_kv_heads
    }

    /// Queries are counted row by row, so that neighbours see nearly the same positions.
    #[inline(always)]
    fn query(&self, query_idx: usize) -> Query {
        let offset = self.item.first + query_idx / self.group_len();
        Query {
            row_idx: self.item.span.first_row + offset,
            head_idx: self.item.kv_head * self.group_len() + query_idx % self.group_len(),
            n_positions: self.item.span.start + offset + 1,
        }
    }

    /// Attention of `Q` queries from `first` on.
    #[inline(always)]
    fn attend<S: Simd, const Q: usize>(&mut self, s: S, first: usize) {
        let head_dim = self.inputs.kv.shape.head_dim;
        let queries: [Query; Q] = std::array::from_fn(|i| self.query(first + i));
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (query, scaled) in queries
            .iter()
            .zip(self.scratch.queries.chunks_exact_mut(head_dim))
        {
            let row = self.inputs.x.row(query.row_idx);
            let head = &row[self.inputs.queries.first + query.head_idx * head_dim..][..head_dim];
            for (scaled, x) in scaled.iter_mut().zip(head) {
                *scaled = x * scale;
            }
        }
        self.scratch.sums.fill(0.0);
        let mut largest = [f32::NEG_INFINITY; Q];
        let mut totals = [s.splat(0.0); Q];
        // The last query sees most.
        let n_positions = queries[Q - 1].n_positions;
        for start in (0..n_positions).step_by(self.scratch.stride) {
            let end = n_positions.min(start + self.scratch.stride);
            self.score::<S, Q>(s, start, end);
            for (i, query) in queries.iter().enumerate() {
                let n_seen = query.n_positions.clamp(start, end) - start;
                self.weigh(s, i, n_seen, end - start, &mut largest[i], &mut totals[i]);
            }
            self.add_values::<S, Q>(s, start, end);
        }
        for (i, query) in queries.iter().enumerate() {
            let inverse = 1.0 / s.reduce_add(totals[i]);
            let at = query.row_idx * self.width + query.head_idx * head_dim;
            // SAFETY: items are split among the threads, and each writes its own rows' own heads.
            let out = unsafe { self.out.part_mut(at..at + head_dim) };
            for (out, sum) in out.iter_mut().zip(&self.scratch.sums[i * head_dim..]) {
                *out = sum * inverse;
            }
        }
    }

    /// The scores of positions `start..end`, sixteen at a time. A page's last vector may run over; the
    /// next page, or the weighing, overwrites what it left.
    #[inline(always)]
    fn score<S: Simd, const Q: usize>(&mut self, s: S, start: usize, end: usize) {
        let shape = self.inputs.kv.shape;
        let (head_dim, n_lanes) = (shape.head_dim, shape.n_lanes());
        let Scratch {
            scores,
            scores_len,
            queries,
            ..
        } = &mut *self.scratch;
        let queries: [&[f32]; Q] = std::array::from_fn(|i| &queries[i * head_dim..][..head_dim]);
        for page_start in (start..end).step_by(shape.page_size) {
            let page = self.item.span.pages[page_start / shape.page_size];
            let keys = self
                .inputs
                .kv
                .keys(self.inputs.layer_idx, page, self.item.kv_head);
            let n_slots = shape.page_size.min(end - page_start);
            for slot in (0..n_slots).step_by(LANES) {
                let mut sums = [s.splat(0.0); Q];
                for (element, keys) in keys.chunks_exact(n_lanes).enumerate() {
                    let keys = keys[slot..].first_chunk().expect("keys fill whole vectors");
                    let keys = s.load_f16(keys);
                    for (sum, query) in sums.iter_mut().zip(&queries) {
                        *sum = s.mul_add(keys, s.splat(query[element]), *sum);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    let at = i * *scores_len + page_start - start + slot;
                    let target = scores[at..]
                        .first_chunk_mut()
                        .expect("room for one vector more");
                    s.store(sum, target);
                }
            }
        }
    }

    /// Turns a query's scores into weights: e^(score - largest), zero beyond what it sees.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        s: S,
        query_idx: usize,
        n_seen: usize,
        n_scores: usize,
        largest: &mut f32,
        total: &mut S::F,
    ) {
        let head_dim = self.inputs.kv.shape.head_dim;
        let Scratch {
            scores,
            scores_len,
            sums,
            ..
        } = &mut *self.scratch;
        let scores = &mut scores[query_idx * *scores_len..][..*scores_len];
        scores[n_seen..n_scores.next_multiple_of(LANES)].fill(f32::NEG_INFINITY);
        if n_seen == 0 {
            scores[..n_scores].fill(0.0);
            return;
        }
        let (vectors, _) = scores.as_chunks_mut::<LANES>();
        let vectors = &mut vectors[..n_seen.div_ceil(LANES)];
        let mut lanes = s.splat(f32::NEG_INFINITY);
        for vector in vectors.iter() {
            lanes = s.max(lanes, s.load(vector));
        }
        let mut found = [0.0; LANES];
        s.store(lanes, &mut found);
        let found = found.into_iter().fold(*largest, f32::max);
        if found > *largest {
            let mut factor = [0.0; LANES];
            s.store(s.exp(s.splat(*largest - found)), &mut factor);
            *total = s.mul(*total, s.splat(factor[0]));
            for sum in &mut sums[query_idx * head_dim..][..head_dim] {
                *sum *= factor[0];
            }
            *largest = found;
        }
        let shift = s.splat(-*largest);
        for vector in vectors.iter_mut() {
            let weights = s.exp(s.add(s.load(vector), shift));
            s.store(weights, vector);
        }
        scores[n_seen..n_scores.next_multiple_of(LANES)].fill(0.0);
        for vector in &scores.as_chunks::<LANES>().0[..n_seen.div_ceil(LANES)] {
            *total = s.add(*total, s.load(vector));
        }
    }

    /// Adds the weighted values of positions `start..end`, up to four vectors of a head at a time.
    #[inline(always)]
    fn add_values<S: Simd, const Q: usize>(&mut self, s: S, start: usize, end: usize) {
        let n_vectors = self.inputs.kv.shape.head_dim / LANES;
        let mut vector_idx = 0;
        while vector_idx + 4 <= n_vectors {
            self.add_value_vectors::<S, Q, 4>(s, start, end, vector_idx);
            vector_idx += 4;
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
        let shape = self.inputs.kv.shape;
        let head_dim = shape.head_dim;
        let Scratch {
            scores,
            scores_len,
            sums,
            ..
        } = &mut *self.scratch;
        let mut lanes: [[S::F; V]; Q] = [[s.splat(0.0); V]; Q];
        for (i, lanes) in lanes.iter_mut().enumerate() {
            let (vectors, _) = sums[i * head_dim..][..head_dim].as_chunks::<LANES>();
            for (v, lanes) in lanes.iter_mut().enumerate() {
                *lanes = s.load(&vectors[vector_idx + v]);
            }
        }
        let weights: [&[f32]; Q] =
            std::array::from_fn(|i| &scores[i * *scores_len..][..*scores_len]);
        for page_start in (start..end).step_by(shape.page_size) {
            let page = self.item.span.pages[page_start / shape.page_size];
            let values = self
                .inputs
                .kv
                .values(self.inputs.layer_idx, page, self.item.kv_head);
            let n_slots = shape.page_size.min(end - page_start);
            for (slot, value) in values.chunks_exact(head_dim).take(n_slots).enumerate() {
                let (vectors, _) = value.as_chunks::<LANES>();
                let position = page_start - start + slot;
                for v in 0..V {
                    let value = s.load_f16(&vectors[vector_idx + v]);
                    for (lanes, weights) in lanes.iter_mut().zip(&weights) {
                        lanes[v] = s.mul_add(value, s.splat(weights[position]), lanes[v]);
                    }
                }
            }
        }
        for (i, lanes) in lanes.into_iter().enumerate() {
            let (vectors, _) = sums[i * head_dim..][..head_dim].as_chunks_mut::<LANES>();
            for (v, lanes) in lanes.into_iter().enumerate() {
                s.store(lanes, &mut vectors[vector_idx + v]);
            }
        }
    }
}
