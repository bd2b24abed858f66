//! The yardstick: every weight in f32, every operation in the plainest loop that is right.

use crate::buffer::Buffer;
use crate::kv::KvPool;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Portable, Simd};
use crate::{
    Activation, AttentionLayer, AttentionSpan, Device, Draw, Drawn, Grain, Heads, KernelError,
    KvShape, MatrixPart, Norm, RopeLayout, Slot, rope,
};

/// A CPU device with f32 weights, activations, keys and values and scalar arithmetic.
///
/// Threads share out the rows of matrix products and nothing else.
pub struct Reference {
    pool: Pool,
}

impl Reference {
    /// A device of `n_threads`, the caller's own among them.
    #[must_use]
    pub fn new(n_threads: usize) -> Self {
        Self {
            pool: Pool::new(n_threads),
        }
    }
}

/// A weight matrix, `[n_rows, n_cols]`.
#[derive(Debug)]
pub struct ReferenceMatrix {
    n_cols: usize,
    values: Vec<f32>,
}

/// A dot product in sixteen interleaved sums, added up in order at the end.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const N_SUMS: usize = 16;
    let mut sums = [0.0; N_SUMS];
    for (a, b) in a.chunks(N_SUMS).zip(b.chunks(N_SUMS)) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

fn rms_norm(row: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = 1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(row).zip(weight) {
        *out = x * scale * weight;
    }
}

fn capped(x: f32, cap: f32) -> f32 {
    cap * (x / cap).tanh()
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// Attention of one query head at `position`.
fn attend(
    kv: &KvPool<f32>,
    layer: AttentionLayer,
    head_idx: usize,
    query: &[f32],
    (pages, position): (&[u32], usize),
    out: &mut [f32],
) {
    let page_size = kv.shape.page_size;
    let first = layer.first_seen(position);
    let place = |position: usize| (pages[position / page_size], position % page_size);
    let mut weights: Vec<f32> = (first..=position)
        .map(|position| {
            let (page, slot) = place(position);
            let keys = kv.keys(layer.idx, page, head_idx);
            let products = query.iter().enumerate();
            let score = products
                .map(|(element, q)| q * keys[kv.shape.key_at::<f32>(slot, element)])
                .sum::<f32>()
                * layer.scale;
            layer.softcap.map_or(score, |cap| capped(score, cap))
        })
        .collect();
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for weight in &mut weights {
        *weight = (*weight - largest).exp();
    }
    let total: f32 = weights.iter().sum();
    out.fill(0.0);
    for (position, weight) in (first..).zip(&weights) {
        let (page, slot) = place(position);
        let values = kv.values(layer.idx, page, head_idx);
        for (element, out) in out.iter_mut().enumerate() {
            *out += weight / total * values[kv.shape.value_at::<f32>(slot, element)];
        }
    }
}

impl Device for Reference {
    type Buffer = Buffer;
    type Matrix = ReferenceMatrix;
    type Vector = Vec<f32>;
    type Kv = KvPool<f32>;

    fn matrix(
        &self,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        _: Grain,
    ) -> Result<Self::Matrix, KernelError> {
        let mut values = Vec::new();
        for part in parts {
            part.check(n_cols)?;
            part.data.widen(&mut values);
        }
        Ok(ReferenceMatrix { n_cols, values })
    }

    fn vector(&self, values: &[f32]) -> Self::Vector {
        values.to_vec()
    }

    fn buffer(&self, width: usize) -> Self::Buffer {
        Buffer::new(width)
    }

    fn kv(&self, shape: KvShape) -> Result<Self::Kv, KernelError> {
        KvPool::new(shape)
    }

    fn gather(&mut self, table: &Self::Matrix, rows: &[u32], out: &mut Self::Buffer) {
        let n_cols = table.n_cols;
        out.resize(rows.len());
        for (out, &row) in out.rows_mut().zip(rows) {
            out.copy_from_slice(&table.values[row as usize * n_cols..][..n_cols]);
        }
    }

    fn scale(&mut self, x: &mut Self::Buffer, factor: f32) {
        x.values_mut().iter_mut().for_each(|x| *x *= factor);
    }

    fn softcap(&mut self, x: &mut Self::Buffer, cap: f32) {
        x.values_mut().iter_mut().for_each(|x| *x = capped(*x, cap));
    }

    fn norm_add(&mut self, x: &Self::Buffer, norm: Norm<'_, Self::Vector>, out: &mut Self::Buffer) {
        let mut normed = vec![0.0; x.width()];
        for (x, out) in x.rows().zip(out.rows_mut()) {
            rms_norm(x, norm.weight, norm.eps, &mut normed);
            out.iter_mut().zip(&normed).for_each(|(out, x)| *out += x);
        }
    }

    fn head_norm(&mut self, x: &mut Self::Buffer, heads: Heads, weight: &Self::Vector, eps: f32) {
        for row in x.rows_mut() {
            for head in row[heads.first..heads.end()].chunks_exact_mut(heads.head_dim) {
                let plain = head.to_vec();
                rms_norm(&plain, weight, eps, head);
            }
        }
    }

    fn matmul(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        if let Some(norm) = norm {
            let mut normed = x.clone();
            for (row, out) in x.rows().zip(normed.rows_mut()) {
                rms_norm(row, norm.weight, norm.eps, out);
            }
            return self.matmul(matrix, bias, &normed, None, out);
        }
        assert_eq!(x.width(), matrix.n_cols, "inputs of a matrix");
        let width = out.width();
        let shared = SharedSlice::new(out.resize(x.n_rows()));
        self.pool.run_split(width, 2, |range| {
            for row_idx in range {
                let weights = &matrix.values[row_idx * matrix.n_cols..][..matrix.n_cols];
                let bias = bias.map_or(0.0, |bias| bias[row_idx]);
                for (token_idx, x) in x.rows().enumerate() {
                    let at = token_idx * width + row_idx;
                    // SAFETY: output rows are split among the threads, so nobody else has this one.
                    let out = unsafe { shared.part_mut(at..at + 1) };
                    out[0] = dot(weights, x) + bias;
                }
            }
        });
    }

    fn matmul_picked(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        rows: &[&[u32]],
    ) -> Vec<f32> {
        let mut out = Buffer::new(matrix.values.len() / matrix.n_cols);
        self.matmul(matrix, None, x, norm, &mut out);
        out.pick(rows)
    }

    fn matmul_add(
        &mut self,
        matrix: &Self::Matrix,
        bias: Option<&Self::Vector>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    ) {
        let mut delta = Buffer::new(out.width());
        self.matmul(matrix, bias, x, None, &mut delta);
        for (out, delta) in out.values_mut().iter_mut().zip(delta.values()) {
            *out += delta;
        }
    }

    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        activation: Activation,
        x: &Self::Buffer,
        norm: Option<Norm<'_, Self::Vector>>,
        out: &mut Self::Buffer,
    ) {
        let width = out.width();
        let mut both = Buffer::new(2 * width);
        self.matmul(matrix, None, x, norm, &mut both);
        out.resize(x.n_rows());
        for (both, out) in both.rows().zip(out.rows_mut()) {
            let (gate, up) = both.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = activate(activation, *gate) * up;
            }
        }
    }

    fn rope_angles(
        &mut self,
        frequencies: &Self::Vector,
        scale: f32,
        positions: &[u32],
        out: &mut Self::Buffer,
    ) {
        out.resize(positions.len());
        for (out, &position) in out.rows_mut().zip(positions) {
            rope::angles(frequencies, scale, position, out);
        }
    }

    fn rope(
        &mut self,
        x: &mut Self::Buffer,
        heads: Heads,
        layout: RopeLayout,
        angles: &Self::Buffer,
    ) {
        for (row, angles) in x.rows_mut().zip(angles.rows()) {
            rope::rotate(row, heads, layout, angles);
        }
    }

    fn kv_scatter(
        &mut self,
        kv: &mut Self::Kv,
        layer_idx: usize,
        x: &Self::Buffer,
        keys: Heads,
        values: Heads,
        slots: &[Slot],
    ) {
        let row = |i| x.row(i);
        let heads = (keys, values);
        kv.put(&mut self.pool, layer_idx, slots, row, heads, |slot| {
            Portable.run(slot);
        });
    }

    fn attention(
        &mut self,
        kv: &Self::Kv,
        layer: AttentionLayer,
        x: &Self::Buffer,
        queries: Heads,
        spans: &[AttentionSpan<'_>],
        out: &mut Self::Buffer,
    ) {
        let Heads {
            n_heads, head_dim, ..
        } = queries;
        let width = out.width();
        let values = out.resize(x.n_rows());
        for span in spans {
            for offset in 0..span.n_rows {
                let row_idx = span.first_row + offset;
                let row = &x.row(row_idx)[queries.first..queries.end()];
                let out = &mut values[row_idx * width..(row_idx + 1) * width];
                let heads = row
                    .chunks_exact(head_dim)
                    .zip(out.chunks_exact_mut(head_dim));
                for (head_idx, (query, out)) in heads.enumerate() {
                    let kv_head = head_idx * kv.shape.n_kv_heads / n_heads;
                    let at = (span.pages, span.start + offset);
                    attend(kv, layer, kv_head, query, at, out);
                }
            }
        }
    }

    fn copy_page(&mut self, kv: &mut Self::Kv, from: u32, to: u32, n_tokens: usize) {
        kv.copy_page(from, to, n_tokens);
    }

    fn select_rows(&mut self, x: &Self::Buffer, rows: &[usize], out: &mut Self::Buffer) {
        out.select(x, rows);
    }

    fn sample(&mut self, logits: &mut Self::Buffer, draws: &[Draw<'_>]) -> Vec<Drawn> {
        logits.sample(draws, &mut Pool::new(1))
    }

    fn write(&mut self, out: &mut Self::Buffer, values: &[f32]) {
        out.assign(values);
    }

    fn read(&mut self, x: &Self::Buffer) -> Vec<f32> {
        x.values().to_vec()
    }
}
