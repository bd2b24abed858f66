//! Row by row operations.

use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Activation, Heads, RopeLayout, rope};

/// Rows from which a second thread is worth waking.
const N_WORTHWHILE: usize = 8;

/// Runs `each(row_idx, row)` over all rows, each on the thread whose own it is.
pub(crate) fn each_row(
    pool: &mut Pool,
    buffer: &mut Buffer,
    each: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (n_rows, width) = (buffer.n_rows(), buffer.width());
    let rows = SharedSlice::new(buffer.values_mut());
    pool.run_own(n_rows, N_WORTHWHILE, |_, own| {
        for row_idx in own.into_iter().flatten() {
            // SAFETY: rows are split among the threads, so nobody else has this one.
            each(row_idx, unsafe {
                rows.part_mut(row_idx * width..(row_idx + 1) * width)
            });
        }
    });
}

/// One over the root of the mean square, its sum taken in four vectors in turn.
#[inline(always)]
fn inverse_rms<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let (quads, rest) = x.as_chunks::<{ 4 * LANES }>();
    let mut sums = [s.splat(0.0); 4];
    for quad in quads {
        for (i, chunk) in quad.as_chunks::<LANES>().0.iter().enumerate() {
            let x = s.load(chunk);
            sums[i] = s.mul_add(x, x, sums[i]);
        }
    }
    let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
    let mut total = s.reduce_add(sum);
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

/// `out += x / rms(x) * weight`.
pub(crate) struct RmsNormAdd<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for RmsNormAdd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let scale = inverse_rms(s, self.x, self.eps);
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out += x * scale * weight;
        }
    }
}

/// `out[i] = activation(x[i]) * x[out.len() + i]`.
pub(crate) struct Gate<'a> {
    pub(crate) activation: Activation,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

/// |x|
#[inline(always)]
pub(crate) fn abs<S: Simd>(s: S, x: S::F) -> S::F {
    s.max(s.mul(x, s.splat(-1.0)), x)
}

/// `x / (1 + e^-t)`, of `t` with the sign of `x`.
#[inline(always)]
fn times_sigmoid<S: Simd>(s: S, x: S::F, t: S::F) -> S::F {
    // e^-|t| is at most 1, so neither branch of the sigmoid can overflow: x / (1 + e^-|t|) above zero, and
    // x e^-|t| / (1 + e^-|t|) below.
    let negative = s.mul(x, s.splat(-1.0));
    let decay = s.exp(s.mul(abs(s, t), s.splat(-1.0)));
    // The second operand of `max` is what is kept of no number.
    let above = s.max(s.splat(0.0), x);
    let below = s.mul(s.max(s.splat(0.0), negative), s.splat(-1.0));
    let numerator = s.mul_add(below, decay, above);
    s.div(numerator, s.add(s.splat(1.0), decay))
}

/// What a gate becomes.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, x: S::F) -> S::F {
    match activation {
        Activation::Silu => times_sigmoid(s, x, x),
        Activation::GeluTanh => {
            // (1 + tanh(u)) / 2 is the sigmoid of 2u, and 2u = x (a + b x^2).
            const A: f32 = 1.595_769;
            const B: f32 = A * 0.044_715;
            let factor = s.mul_add(s.mul(x, x), s.splat(B), s.splat(A));
            times_sigmoid(s, x, s.mul(x, factor))
        }
    }
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(crate) fn softcap<S: Simd>(s: S, x: S::F, cap: f32) -> S::F {
    let z = s.div(x, s.splat(cap));
    let size = abs(s, z);
    // tanh(|z|) = (1 - e^-2|z|) / (1 + e^-2|z|); where z is too small to have a sign below, that is zero.
    let decay = s.exp(s.mul(size, s.splat(-2.0)));
    let one = s.splat(1.0);
    let tangent = s.div(s.mul_add(decay, s.splat(-1.0), one), s.add(decay, one));
    let sign = s.div(z, s.max(size, s.splat(f32::MIN_POSITIVE)));
    s.mul(s.mul(tangent, sign), s.splat(cap))
}

/// [`softcap`] of each value.
pub(crate) struct Softcap<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (vectors, rest) = self.x.as_chunks_mut::<LANES>();
        for x in vectors {
            s.store(softcap(s, s.load(x), self.cap), x);
        }
        let mut x = [0.0; LANES];
        x[..rest.len()].copy_from_slice(rest);
        s.store(softcap(s, s.load(&x), self.cap), &mut x);
        rest.copy_from_slice(&x[..rest.len()]);
    }
}

/// Sixteen gates and sixteen ups.
#[inline(always)]
fn gated<S: Simd>(
    s: S,
    activation: Activation,
    gate: &[f32; LANES],
    up: &[f32; LANES],
    out: &mut [f32; LANES],
) {
    let gate = activate(s, activation, s.load(gate));
    s.store(s.mul(gate, s.load(up)), out);
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gate, up) = self.x.split_at(self.out.len());
        let ((gates, gate_rest), (ups, up_rest)) = (gate.as_chunks(), up.as_chunks());
        let (outs, out_rest) = self.out.as_chunks_mut();
        let activation = self.activation;
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            gated(s, activation, gate, up, out);
        }
        let (mut gate, mut up, mut out) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        gated(s, activation, &gate, &up, &mut out);
        out_rest.copy_from_slice(&out[..out_rest.len()]);
    }
}

/// Rotates the heads of one row.
pub(crate) struct Rotate<'a> {
    pub(crate) row: &'a mut [f32],
    pub(crate) heads: Heads,
    pub(crate) layout: RopeLayout,
    pub(crate) angles: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        rope::rotate(self.row, self.heads, self.layout, self.angles);
    }
}
