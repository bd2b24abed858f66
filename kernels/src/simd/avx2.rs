//! Sixteen lanes in two AVX2 registers, with two ways to multiply bytes: `maddubs`, whose sums of two products have sixteen bits,
//! and AVX-VNNI's `vpdpbusd`.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// How the products of bytes are taken. A value is proof that the machine can.
pub(crate) trait Bytes: Copy {
    /// [`Simd::EXCESS`].
    const EXCESS: i32 = 0;

    /// A kernel, compiled for the instructions that this needs.
    fn run<K: Kernel>(tier: Avx2<Self>, kernel: K) -> K::Output;

    /// [`Simd::n_narrow`].
    #[inline(always)]
    fn n_narrow(_n_bits: usize) -> usize {
        usize::MAX
    }

    // All of the following are of eight lanes.
    /// [`Simd::dot4`].
    fn dot4(self, sum: __m256i, a: __m256i, x: __m256i) -> __m256i;
    /// [`Simd::first_products`].
    #[inline(always)]
    fn first_products(self, _n_bits: usize, sum: __m256i, a: __m256i, x: __m256i) -> __m256i {
        self.dot4(sum, a, x)
    }
    /// [`Simd::add_products`].
    #[inline(always)]
    fn add_products(self, _n_bits: usize, narrow: __m256i, a: __m256i, x: __m256i) -> __m256i {
        self.dot4(narrow, a, x)
    }
    /// [`Simd::widen`].
    #[inline(always)]
    fn widen(self, _sum: __m256i, narrow: __m256i) -> __m256i {
        narrow
    }
    /// [`Simd::dot2_int`].
    fn dot2_int(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

/// AVX2 alone.
#[derive(Clone, Copy)]
pub(crate) struct Maddubs(());

/// AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni(());

/// Proof that the machine has AVX2, FMA and F16C, and a way to multiply bytes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<B>(B);

impl Avx2<Maddubs> {
    pub(crate) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Self(Maddubs(())))
    }
}

impl Avx2<Vnni> {
    pub(crate) fn detect() -> Option<Self> {
        Avx2::<Maddubs>::detect()?;
        is_x86_feature_detected!("avxvnni").then_some(Self(Vnni(())))
    }
}

/// Calls an intrinsic of this tier.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: a `Bytes` value exists, so the machine has the instruction; pointers come from
        // references to arrays of the right size, and the loads and stores are unaligned ones.
        unsafe { $call }
    };
}

impl Bytes for Maddubs {
    const EXCESS: i32 = 128;

    #[inline(always)]
    fn run<K: Kernel>(tier: Avx2<Self>, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inside<K: Kernel>(kernel: K, tier: Avx2<Maddubs>) -> K::Output {
            kernel.run(tier)
        }
        avx2!(inside(kernel, tier))
    }

    /// As many pairs of products of the greatest code and 127 as 32,767 holds; of signed bytes, one.
    #[inline(always)]
    fn n_narrow(n_bits: usize) -> usize {
        match n_bits {
            8 => 1,
            _ => 32_767 / (2 * 127 * ((1 << n_bits) - 1)),
        }
    }

    /// `maddubs` would saturate; even and odd bytes apart fit 16 bits.
    #[inline(always)]
    fn dot4(self, sum: __m256i, a: __m256i, x: __m256i) -> __m256i {
        avx2!({
            let even_a = _mm256_and_si256(a, _mm256_set1_epi16(0xff));
            let odd_a = _mm256_srli_epi16::<8>(a);
            let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            let odd_x = _mm256_srai_epi16::<8>(x);
            let products = _mm256_add_epi32(
                _mm256_madd_epi16(even_a, even_x),
                _mm256_madd_epi16(odd_a, odd_x),
            );
            _mm256_add_epi32(sum, products)
        })
    }

    #[inline(always)]
    fn first_products(self, n_bits: usize, _: __m256i, a: __m256i, x: __m256i) -> __m256i {
        avx2!({
            if n_bits == 8 {
                let a = _mm256_xor_si256(a, _mm256_set1_epi8(i8::MIN));
                _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(x, a))
            } else {
                _mm256_maddubs_epi16(a, x)
            }
        })
    }

    #[inline(always)]
    fn add_products(self, n_bits: usize, sum: __m256i, a: __m256i, x: __m256i) -> __m256i {
        avx2!(added(sum, self.first_products(n_bits, sum, a, x)))
    }

    #[inline(always)]
    fn widen(self, sum: __m256i, narrow: __m256i) -> __m256i {
        self.dot2_int(sum, narrow, avx2!(_mm256_set1_epi16(1)))
    }

    #[inline(always)]
    fn dot2_int(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi32(sum, _mm256_madd_epi16(a, b)))
    }
}

/// The sum of sixteen numbers of sixteen bits each. In assembly: otherwise the compiler adds products to each other first, and
/// puts sums for which there are registers into memory.
#[inline]
#[target_feature(enable = "avx2")]
fn added(mut sum: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the machine has the instruction, which changes its first register alone.
    unsafe {
        asm!(
            "vpaddw {sum}, {sum}, {a}",
            sum = inout(ymm_reg) sum,
            a = in(ymm_reg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

impl Bytes for Vnni {
    #[inline(always)]
    fn run<K: Kernel>(tier: Avx2<Self>, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn inside<K: Kernel>(kernel: K, tier: Avx2<Vnni>) -> K::Output {
            kernel.run(tier)
        }
        avx2!(inside(kernel, tier))
    }

    #[inline(always)]
    fn dot4(self, sum: __m256i, a: __m256i, x: __m256i) -> __m256i {
        avx2!(_mm256_dpbusd_avx_epi32(sum, a, x))
    }

    #[inline(always)]
    fn dot2_int(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_dpwssd_avx_epi32(sum, a, b))
    }
}

/// Half of [`Simd::or_shifted`].
#[inline(always)]
fn or_shifted_half(low: __m256i, high: __m256i, by: i32, mask: u8) -> __m256i {
    avx2!({
        let shifted = if by < 0 {
            _mm256_srlv_epi32(high, _mm256_set1_epi32(-by))
        } else {
            _mm256_sllv_epi32(high, _mm256_set1_epi32(by))
        };
        let mask = _mm256_set1_epi8(mask.cast_signed());
        _mm256_or_si256(low, _mm256_and_si256(shifted, mask))
    })
}

/// Sixteen f16, widened; `start` leads to 32 readable bytes.
#[inline(always)]
fn load_halves(start: *const u8) -> [__m256; 2] {
    let start = start.cast::<__m128i>();
    avx2!([
        _mm256_cvtph_ps(_mm_loadu_si128(start)),
        _mm256_cvtph_ps(_mm_loadu_si128(start.add(1)))
    ])
}

/// Half of [`Simd::dot2`].
#[inline(always)]
fn dot2_half(sum: __m256, a: __m256i, b: __m256i) -> __m256 {
    avx2!({
        let sum = _mm256_fmadd_ps(high_bf16(a), high_bf16(b), sum);
        _mm256_fmadd_ps(low_bf16(a), low_bf16(b), sum)
    })
}

#[inline(always)]
fn high_bf16(pairs: __m256i) -> __m256 {
    avx2!({
        let mask = _mm256_set1_epi32(-0x1_0000);
        _mm256_castsi256_ps(_mm256_and_si256(pairs, mask))
    })
}

#[inline(always)]
fn low_bf16(pairs: __m256i) -> __m256 {
    avx2!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)))
}

/// Eight lanes in the low halves of which bf16 are to be had by rounding.
#[inline(always)]
fn bf16_half(a: __m256) -> __m256i {
    avx2!({
        let bits = _mm256_castps_si256(a);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounding = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, rounding))
    })
}

/// The greatest of eight lanes, by halves.
#[inline(always)]
pub(super) fn reduce_max(a: __m256) -> f32 {
    avx2!({
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
    })
}

/// The sum of eight lanes, by halves.
#[inline(always)]
pub(super) fn reduce_add(a: __m256) -> f32 {
    avx2!({
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
    })
}

#[inline(always)]
fn times_power_half(a: __m256, exponents: __m256) -> __m256 {
    avx2!({
        let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(exponents));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted))
    })
}

impl<B: Bytes> Simd for Avx2<B> {
    type F = [__m256; 2];
    type I = [__m256i; 2];

    const IS_WIDE: bool = false;
    const TAKES_SEVERAL: bool = true;
    const EXCESS: i32 = B::EXCESS;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        B::run(self, kernel)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [avx2!(_mm256_set1_ps(value)); 2]
    }
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        avx2!([
            _mm256_loadu_ps(values.as_ptr()),
            _mm256_loadu_ps(values.as_ptr().add(8))
        ])
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::F {
        let start = bytes.as_ptr().cast::<f32>();
        avx2!([_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))])
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::F {
        load_halves(bytes.as_ptr())
    }
    #[inline(always)]
    fn store(self, vector: Self::F, out: &mut [f32; LANES]) {
        avx2!({
            _mm256_storeu_ps(out.as_mut_ptr(), vector[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), vector[1]);
        });
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        avx2!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1])
        ])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn where_at_least(self, x: Self::F, bound: Self::F, a: Self::F) -> Self::F {
        avx2!([
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[0], bound[0]), a[0]),
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[1], bound[1]), a[1]),
        ])
    }
    #[inline(always)]
    fn times_power(self, a: Self::F, exponents: Self::F) -> Self::F {
        [
            times_power_half(a[0], exponents[0]),
            times_power_half(a[1], exponents[1]),
        ]
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [avx2!(_mm256_set1_epi32(value)); 2]
    }
    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I {
        avx2!({
            let start = bytes.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))]
        })
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::I) -> Self::I {
        avx2!({
            let mask = _mm256_set1_epi8(15);
            [
                _mm256_and_si256(bytes[0], mask),
                _mm256_and_si256(bytes[1], mask),
            ]
        })
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::I) -> Self::I {
        let shifted = avx2!([
            _mm256_srli_epi32::<4>(bytes[0]),
            _mm256_srli_epi32::<4>(bytes[1])
        ]);
        self.low_nibbles(shifted)
    }
    #[inline(always)]
    fn or_shifted(self, low: Self::I, high: Self::I, by: i32, mask: u8) -> Self::I {
        [
            or_shifted_half(low[0], high[0], by, mask),
            or_shifted_half(low[1], high[1], by, mask),
        ]
    }
    #[inline(always)]
    fn dot4(self, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        [
            self.0.dot4(sum[0], a[0], x[0]),
            self.0.dot4(sum[1], a[1], x[1]),
        ]
    }
    #[inline(always)]
    fn n_narrow(n_bits: usize) -> usize {
        B::n_narrow(n_bits)
    }
    #[inline(always)]
    fn first_products(self, n_bits: usize, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        [
            self.0.first_products(n_bits, sum[0], a[0], x[0]),
            self.0.first_products(n_bits, sum[1], a[1], x[1]),
        ]
    }
    #[inline(always)]
    fn add_products(self, n_bits: usize, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        [
            self.0.add_products(n_bits, sum[0], a[0], x[0]),
            self.0.add_products(n_bits, sum[1], a[1], x[1]),
        ]
    }
    #[inline(always)]
    fn widen(self, sum: Self::I, narrow: Self::I) -> Self::I {
        [
            self.0.widen(sum[0], narrow[0]),
            self.0.widen(sum[1], narrow[1]),
        ]
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        avx2!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }
    #[inline(always)]
    fn with_bits(self, bits: Self::I) -> Self::F {
        avx2!([_mm256_castsi256_ps(bits[0]), _mm256_castsi256_ps(bits[1])])
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        avx2!([_mm256_castps_si256(a[0]), _mm256_castps_si256(a[1])])
    }
    #[inline(always)]
    fn low_bytes(self, a: Self::I) -> [u8; LANES] {
        lanes_of(a).map(|lane| lane.to_le_bytes()[0])
    }
    #[inline(always)]
    fn reduce_add_int(self, a: Self::I) -> i32 {
        lanes_of(a).into_iter().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        reduce_max(avx2!(_mm256_max_ps(a[0], a[1])))
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        reduce_add(avx2!(_mm256_add_ps(a[0], a[1])))
    }
    #[inline(always)]
    fn dot2(self, sum: Self::F, a: Self::I, b: Self::I) -> Self::F {
        [dot2_half(sum[0], a[0], b[0]), dot2_half(sum[1], a[1], b[1])]
    }
    #[inline(always)]
    fn dot2_apart(self, sums: [Self::F; 2], a: Self::I, b: Self::I) -> [Self::F; 2] {
        let [mut firsts, mut seconds] = sums;
        for i in 0..2 {
            firsts[i] = avx2!(_mm256_fmadd_ps(low_bf16(a[i]), low_bf16(b[i]), firsts[i]));
            seconds[i] = avx2!(_mm256_fmadd_ps(
                high_bf16(a[i]),
                high_bf16(b[i]),
                seconds[i]
            ));
        }
        [firsts, seconds]
    }
    #[inline(always)]
    fn load_signed_bytes(self, bytes: &[i8; 2 * LANES]) -> Self::I {
        avx2!({
            let start = bytes.as_ptr().cast::<__m128i>();
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(start)),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(start.add(1))),
            ]
        })
    }
    #[inline(always)]
    fn dot2_int(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        [
            self.0.dot2_int(sum[0], a[0], b[0]),
            self.0.dot2_int(sum[1], a[1], b[1]),
        ]
    }
    #[inline(always)]
    fn low_halves(self, a: Self::I) -> Self::I {
        avx2!({
            let mask = _mm256_set1_epi32(0xffff);
            [_mm256_and_si256(a[0], mask), _mm256_and_si256(a[1], mask)]
        })
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        lanes_of([bf16_half(a[0]), bf16_half(a[1])]).map(|lane| lane as u16)
    }
}

#[inline(always)]
fn lanes_of(a: [__m256i; 2]) -> [i32; LANES] {
    let mut lanes = [0; LANES];
    avx2!({
        let start = lanes.as_mut_ptr().cast::<__m256i>();
        _mm256_storeu_si256(start, a[0]);
        _mm256_storeu_si256(start.add(1), a[1]);
    });
    lanes
}
