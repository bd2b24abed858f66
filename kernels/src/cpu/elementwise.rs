//! Row by row operations.

use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, LANES, Simd};

/// Rows from which a second thread is worth waking.
const N_WORTHWHILE: usize = 8;

/// Runs `each(row_idx, row)` over all rows, split among the threads.
pub(crate) fn each_row(
    pool: &mut Pool,
    buffer: &mut Buffer,
    each: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (n_rows, width) = (buffer.n_rows(), buffer.width());
    let rows = SharedSlice::new(buffer.values_mut());
    pool.run_split(n_rows, N_WORTHWHILE, |range| {
        for row_idx in range {
            // SAFETY: rows are split among the threads, so nobody else has this one.
            each(row_idx, unsafe {
                rows.part_mut(row_idx * width..(row_idx + 1) * width)
            });
        }
    });
}

/// One over the root of the mean square, its sum taken in sixteen lanes.
#[inline(always)]
fn inverse_rms<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = s.splat(0.0);
    for chunk in chunks {
        let x = s.load(chunk);
        sums = s.mul_add(x, x, sums);
    }
    let mut total = s.reduce_add(sums);
    for value in rest {
        total += value * value;
    }
    1.0 / (total / x.len() as f32 + eps).sqrt()
}

/// `out = x / rms(x) * weight`.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let scale = inverse_rms(s, self.x, self.eps);
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * scale * weight;
        }
    }
}

/// [`RmsNorm`] where the output takes the input's place.
pub(crate) struct RmsNormInPlace<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl Kernel for RmsNormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let scale = inverse_rms(s, self.x, self.eps);
        for (x, weight) in self.x.iter_mut().zip(self.weight) {
            *x = *x * scale * weight;
        }
    }
}

/// `out[i] = silu(x[i]) * x[out.len() + i]`.
pub(crate) struct SiluMul<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

/// Sixteen gates and sixteen ups.
#[inline(always)]
fn silu_mul<S: Simd>(s: S, gate: &[f32; LANES], up: &[f32; LANES], out: &mut [f32; LANES]) {
    // e^-|x| is at most 1, so neither branch of the sigmoid can overflow.
    let mut decay = [0.0; LANES];
    s.store(s.exp(s.load(&gate.map(|x| -x.abs()))), &mut decay);
    for lane in 0..LANES {
        let numerator = if gate[lane] >= 0.0 { 1.0 } else { decay[lane] };
        out[lane] = gate[lane] * (numerator / (1.0 + decay[lane])) * up[lane];
    }
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, up) = self.x.split_at(self.out.len());
        let ((gates, gate_rest), (ups, up_rest)) = (gate.as_chunks(), up.as_chunks());
        let (outs, out_rest) = self.out.as_chunks_mut();
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            silu_mul(s, gate, up, out);
        }
        let (mut gate, mut up, mut out) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        silu_mul(s, &gate, &up, &mut out);
        out_rest.copy_from_slice(&out[..out_rest.len()]);
    }
}
