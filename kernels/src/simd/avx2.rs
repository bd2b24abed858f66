//! Sixteen lanes in two AVX2 registers.

use std::arch::x86_64::*;

use half::f16;

use super::{Kernel, LANES, Simd};

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run_inside<K: Kernel>(kernel: K, tier: Avx2) -> K::Output {
    kernel.run(tier)
}

/// Calls an intrinsic of this tier.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: an `Avx2` value exists, so the machine has the instruction; pointers come from
        // references to arrays of the right size, and the loads and stores are unaligned ones.
        unsafe { $call }
    };
}

/// The four products of bytes of a lane, summed, for eight lanes. `maddubs` would saturate; even and
/// odd bytes apart fit 16 bits.
#[inline(always)]
fn dot4_half(sum: __m256i, a: __m256i, x: i32) -> __m256i {
    avx2!({
        let x = _mm256_set1_epi32(x);
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

/// Sixteen f16, widened; `start` leads to 32 readable bytes.
#[inline(always)]
fn load_halves(start: *const u8) -> [__m256; 2] {
    let start = start.cast::<__m128i>();
    avx2!([
        _mm256_cvtph_ps(_mm_loadu_si128(start)),
        _mm256_cvtph_ps(_mm_loadu_si128(start.add(1)))
    ])
}

#[inline(always)]
fn exponent_half(a: __m256) -> __m256 {
    avx2!({
        let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(a));
        let one = _mm256_castps_si256(_mm256_set1_ps(1.0));
        _mm256_castsi256_ps(_mm256_add_epi32(shifted, one))
    })
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        avx2!(run_inside(kernel, self))
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
    fn load_f16(self, values: &[f16; LANES]) -> Self::F {
        load_halves(values.as_ptr().cast())
    }
    #[inline(always)]
    fn load_f16_bytes(self, bytes: &[u8; 2 * LANES]) -> Self::F {
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
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn exponent_of_bits(self, a: Self::F) -> Self::F {
        [exponent_half(a[0]), exponent_half(a[1])]
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
    fn dot4(self, sum: Self::I, a: Self::I, x: i32) -> Self::I {
        [dot4_half(sum[0], a[0], x), dot4_half(sum[1], a[1], x)]
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        avx2!([_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])])
    }
}
