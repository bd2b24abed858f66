//! Sixteen lanes in four NEON registers, with three ways to multiply bytes.
//!
//! Arm calls them FEAT_DotProd (`sdot`: both factors signed) and FEAT_I8MM (`usdot`: one of them unsigned, as the
//! kernels want it). Their intrinsics are not stable, so they are written in assembly.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::{Kernel, LANES, Simd};

/// Registers of a vector, four lanes each.
const N_QUARTERS: usize = 4;

/// How the products of bytes are taken. A value is proof that the machine can.
pub(crate) trait Bytes: Copy {
    /// A kernel, compiled for the instructions that this needs.
    fn run<K: Kernel>(tier: Neon<Self>, kernel: K) -> K::Output;

    /// [`Simd::dot4`] of four lanes.
    fn dot4(self, sum: int32x4_t, a: uint8x16_t, x: int8x16_t) -> int32x4_t;
}

/// Products of sixteen bits: every machine.
#[derive(Clone, Copy)]
pub(crate) struct Widened;

/// FEAT_DotProd.
#[derive(Clone, Copy)]
pub(crate) struct Signed(());

/// FEAT_I8MM.
#[derive(Clone, Copy)]
pub(crate) struct Mixed(());

/// A machine with NEON, which are all of this architecture, and a way to multiply bytes.
#[derive(Clone, Copy)]
pub(crate) struct Neon<B>(B);

impl Neon<Widened> {
    pub(crate) const fn new() -> Self {
        Self(Widened)
    }
}

impl Neon<Signed> {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("dotprod").then_some(Self(Signed(())))
    }
}

impl Neon<Mixed> {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("i8mm").then_some(Self(Mixed(())))
    }
}

/// Calls intrinsics of this tier.
macro_rules! neon {
    ($call:expr) => {
        // SAFETY: the machine has the instructions, for it has NEON and a `Bytes` value exists; pointers come from references
        // to arrays of the right size.
        unsafe { $call }
    };
}

/// An array of what a call gives for each quarter of a vector. (A closure would be compiled without the tier's instructions.)
macro_rules! each {
    (|$quarter:ident| $call:expr) => {
        [
            {
                let $quarter = 0;
                $call
            },
            {
                let $quarter = 1;
                $call
            },
            {
                let $quarter = 2;
                $call
            },
            {
                let $quarter = 3;
                $call
            },
        ]
    };
}

/// `each!`, of intrinsics.
macro_rules! quarters {
    (|$quarter:ident| $call:expr) => {
        neon!(each!(|$quarter| $call))
    };
}

impl Bytes for Widened {
    #[inline(never)]
    fn run<K: Kernel>(tier: Neon<Self>, kernel: K) -> K::Output {
        kernel.run(tier)
    }

    /// A product fits sixteen bits with its sign: 255 * -128.
    #[inline(always)]
    fn dot4(self, sum: int32x4_t, a: uint8x16_t, x: int8x16_t) -> int32x4_t {
        neon!({
            let (a, x) = (vreinterpretq_s16_u8(a), vreinterpretq_s16_s8(x));
            let even_a = vandq_s16(a, vdupq_n_s16(0xff));
            let odd_a = vreinterpretq_s16_u16(vshrq_n_u16::<8>(vreinterpretq_u16_s16(a)));
            let even_x = vshrq_n_s16::<8>(vshlq_n_s16::<8>(x));
            let odd_x = vshrq_n_s16::<8>(x);
            let sum = vpadalq_s16(sum, vmulq_s16(even_a, even_x));
            vpadalq_s16(sum, vmulq_s16(odd_a, odd_x))
        })
    }
}

impl Bytes for Signed {
    #[inline(always)]
    fn run<K: Kernel>(tier: Neon<Self>, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod")]
        fn inside<K: Kernel>(kernel: K, tier: Neon<Signed>) -> K::Output {
            kernel.run(tier)
        }
        neon!(inside(kernel, tier))
    }

    /// `a` less 128 is signed; so is -128, whose products depend on `x` alone: they are had once for all `a`.
    #[inline(always)]
    fn dot4(self, sum: int32x4_t, a: uint8x16_t, x: int8x16_t) -> int32x4_t {
        neon!({
            let least = vdupq_n_s8(i8::MIN);
            let a = veorq_s8(vreinterpretq_s8_u8(a), least);
            vsubq_s32(sdot(sum, a, x), sdot(vdupq_n_s32(0), least, x))
        })
    }
}

impl Bytes for Mixed {
    #[inline(always)]
    fn run<K: Kernel>(tier: Neon<Self>, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon,i8mm")]
        fn inside<K: Kernel>(kernel: K, tier: Neon<Mixed>) -> K::Output {
            kernel.run(tier)
        }
        neon!(inside(kernel, tier))
    }

    #[inline(always)]
    fn dot4(self, sum: int32x4_t, a: uint8x16_t, x: int8x16_t) -> int32x4_t {
        neon!(usdot(sum, a, x))
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the machine has the instruction, which changes its first register alone.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sum: int32x4_t, a: uint8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: as in `sdot`.
    unsafe {
        asm!(
            "usdot {sum:v}.4s, {a:v}.16b, {x:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// A quarter of [`Simd::dot2`].
#[inline(always)]
fn dot2_quarter(sum: float32x4_t, a: uint32x4_t, b: uint32x4_t) -> float32x4_t {
    neon!({
        let sum = vfmaq_f32(sum, high_bf16(a), high_bf16(b));
        vfmaq_f32(sum, low_bf16(a), low_bf16(b))
    })
}

#[inline(always)]
fn high_bf16(pairs: uint32x4_t) -> float32x4_t {
    neon!(vreinterpretq_f32_u32(vandq_u32(
        pairs,
        vdupq_n_u32(0xffff_0000)
    )))
}

#[inline(always)]
fn low_bf16(pairs: uint32x4_t) -> float32x4_t {
    neon!(vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)))
}

/// The greater of each lane, `b` where either is no number.
#[inline(always)]
fn max_quarter(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    neon!(vbslq_f32(vcgtq_f32(a, b), a, b))
}

/// What is left of sixteen lanes when lane i and lane i + 8 are put together, then i and i + 4, and so on.
macro_rules! by_halves {
    ($a:expr, $together:expr) => {
        neon!({
            let (a, together) = ($a, $together);
            let four = together(together(a[0], a[2]), together(a[1], a[3]));
            let two = together(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(together(two, vextq_f32::<1>(two, two)))
        })
    };
}

impl<B: Bytes> Simd for Neon<B> {
    type F = [float32x4_t; N_QUARTERS];
    type I = [uint32x4_t; N_QUARTERS];

    const IS_WIDE: bool = false;
    const TAKES_SEVERAL: bool = true;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        B::run(self, kernel)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [neon!(vdupq_n_f32(value)); N_QUARTERS]
    }
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        quarters!(|i| vld1q_f32(values.as_ptr().add(4 * i)))
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::F {
        quarters!(|i| vreinterpretq_f32_u8(vld1q_u8(bytes.as_ptr().add(16 * i))))
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::F {
        quarters!(|i| vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes.as_ptr().add(8 * i)))))
    }
    #[inline(always)]
    fn store(self, vector: Self::F, out: &mut [f32; LANES]) {
        for (i, quarter) in vector.into_iter().enumerate() {
            neon!(vst1q_f32(out.as_mut_ptr().add(4 * i), quarter));
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|i| vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|i| vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        quarters!(|i| vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(|i| vdivq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(|i| max_quarter(a[i], b[i]))
    }
    #[inline(always)]
    fn where_at_least(self, x: Self::F, bound: Self::F, a: Self::F) -> Self::F {
        quarters!(|i| {
            let is_kept = vcgeq_f32(x[i], bound[i]);
            vreinterpretq_f32_u32(vandq_u32(is_kept, vreinterpretq_u32_f32(a[i])))
        })
    }
    #[inline(always)]
    fn times_power(self, a: Self::F, exponents: Self::F) -> Self::F {
        quarters!(|i| {
            let shifted = vshlq_n_u32::<23>(vreinterpretq_u32_f32(exponents[i]));
            vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a[i]), shifted))
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [neon!(vdupq_n_u32(value.cast_unsigned())); N_QUARTERS]
    }
    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I {
        quarters!(|i| vreinterpretq_u32_u8(vld1q_u8(bytes.as_ptr().add(16 * i))))
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::I) -> Self::I {
        quarters!(|i| vandq_u32(bytes[i], vdupq_n_u32(0x0f0f_0f0f)))
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::I) -> Self::I {
        quarters!(|i| vreinterpretq_u32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_u32(bytes[i]))))
    }
    #[inline(always)]
    fn or_shifted(self, low: Self::I, high: Self::I, by: i32, mask: u8) -> Self::I {
        quarters!(|i| {
            let shifted = vshlq_u32(high[i], vdupq_n_s32(by));
            let mask = vreinterpretq_u32_u8(vdupq_n_u8(mask));
            vorrq_u32(low[i], vandq_u32(shifted, mask))
        })
    }
    #[inline(always)]
    fn dot4(self, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        quarters!(|i| {
            let (a, x) = (vreinterpretq_u8_u32(a[i]), vreinterpretq_s8_u32(x[i]));
            vreinterpretq_u32_s32(self.0.dot4(vreinterpretq_s32_u32(sum[i]), a, x))
        })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        quarters!(|i| vcvtq_f32_s32(vreinterpretq_s32_u32(a[i])))
    }
    #[inline(always)]
    fn with_bits(self, bits: Self::I) -> Self::F {
        quarters!(|i| vreinterpretq_f32_u32(bits[i]))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        quarters!(|i| vreinterpretq_u32_f32(a[i]))
    }
    #[inline(always)]
    fn low_bytes(self, a: Self::I) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        neon!({
            let (low, high) = (vmovn_u32(a[0]), vmovn_u32(a[2]));
            let (low, high) = (vmovn_high_u32(low, a[1]), vmovn_high_u32(high, a[3]));
            vst1q_u8(bytes.as_mut_ptr(), vmovn_high_u16(vmovn_u16(low), high));
        });
        bytes
    }
    #[inline(always)]
    fn reduce_add_int(self, a: Self::I) -> i32 {
        let sum = neon!(vaddvq_u32(vaddq_u32(
            vaddq_u32(a[0], a[1]),
            vaddq_u32(a[2], a[3])
        )));
        sum.cast_signed()
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        by_halves!(a, max_quarter)
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        by_halves!(a, vaddq_f32)
    }
    #[inline(always)]
    fn dot2(self, sum: Self::F, a: Self::I, b: Self::I) -> Self::F {
        each!(|i| dot2_quarter(sum[i], a[i], b[i]))
    }
    #[inline(always)]
    fn dot2_apart(self, sums: [Self::F; 2], a: Self::I, b: Self::I) -> [Self::F; 2] {
        [
            each!(|i| neon!(vfmaq_f32(sums[0][i], low_bf16(a[i]), low_bf16(b[i])))),
            each!(|i| neon!(vfmaq_f32(sums[1][i], high_bf16(a[i]), high_bf16(b[i])))),
        ]
    }
    #[inline(always)]
    fn load_signed_bytes(self, bytes: &[i8; 2 * LANES]) -> Self::I {
        quarters!(|i| vreinterpretq_u32_s16(vmovl_s8(vld1_s8(bytes.as_ptr().add(8 * i)))))
    }
    #[inline(always)]
    fn dot2_int(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        quarters!(|i| {
            let (a, b) = (vreinterpretq_s16_u32(a[i]), vreinterpretq_s16_u32(b[i]));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            let products = vpaddq_s32(low, vmull_high_s16(a, b));
            vaddq_u32(sum[i], vreinterpretq_u32_s32(products))
        })
    }
    #[inline(always)]
    fn low_halves(self, a: Self::I) -> Self::I {
        quarters!(|i| vandq_u32(a[i], vdupq_n_u32(0xffff)))
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        let mut halves = [0; LANES];
        for (i, quarter) in a.into_iter().enumerate() {
            neon!({
                let bits = vreinterpretq_u32_f32(quarter);
                let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                let rounding = vaddq_u32(odd, vdupq_n_u32(0x7fff));
                vst1_u16(halves.as_mut_ptr().add(4 * i), vaddhn_u32(bits, rounding));
            });
        }
        halves
    }
}
