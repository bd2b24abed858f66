//! Sixteen lanes in one AVX-512 register, with VNNI for bytes.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd, avx2};

/// Proof that the machine has AVX-512 F, BW, VL, DQ, VNNI, BF16 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Self(()))
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,fma,f16c")]
fn run_inside<K: Kernel>(kernel: K, tier: Avx512) -> K::Output {
    kernel.run(tier)
}

/// Calls an intrinsic of this tier.
macro_rules! avx512 {
    ($call:expr) => {
        // SAFETY: an `Avx512` value exists, so the machine has the instruction; pointers come from
        // references to arrays of the right size, and the loads and stores are unaligned ones.
        unsafe { $call }
    };
}

/// Reduces vector i to lane i: in each step half of two vectors, of each what is left of it, meets the other half in one vector.
/// `$meet` is of two vectors, lane by lane.
macro_rules! reduce_each {
    ($vectors:expr, $meet:ident) => {
        avx512!({
            let v = $vectors;
            let mut fours = [_mm512_setzero_ps(); 4];
            for (i, four) in fours.iter_mut().enumerate() {
                // Vectors i, i + 4, i + 8 and i + 12: eight lanes of two of them, then four lanes of each.
                let mut twos = [_mm512_setzero_ps(); 2];
                for (two, (a, b)) in twos.iter_mut().zip([(v[i], v[i + 4]), (v[i + 8], v[i + 12])]) {
                    *two = $meet(
                        _mm512_shuffle_f32x4::<0x44>(a, b),
                        _mm512_shuffle_f32x4::<0xee>(a, b),
                    );
                }
                *four = $meet(
                    _mm512_shuffle_f32x4::<0x88>(twos[0], twos[1]),
                    _mm512_shuffle_f32x4::<0xdd>(twos[0], twos[1]),
                );
            }
            let mut pairs = [_mm512_setzero_ps(); 2];
            for (pair, fours) in pairs.iter_mut().zip(fours.as_chunks::<2>().0) {
                let (a, b) = (_mm512_castps_pd(fours[0]), _mm512_castps_pd(fours[1]));
                let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
                *pair = $meet(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
            }
            $meet(
                _mm512_shuffle_ps::<0x88>(pairs[0], pairs[1]),
                _mm512_shuffle_ps::<0xdd>(pairs[0], pairs[1]),
            )
        })
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;

    const IS_WIDE: bool = true;
    const TAKES_SEVERAL: bool = true;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        avx512!(run_inside(kernel, self))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        avx512!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        avx512!(_mm512_loadu_ps(values.as_ptr()))
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::F {
        avx512!(_mm512_loadu_ps(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::F {
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())))
    }
    #[inline(always)]
    fn store(self, vector: Self::F, out: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), vector));
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn where_at_least(self, x: Self::F, bound: Self::F, a: Self::F) -> Self::F {
        avx512!(_mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, bound),
            a
        ))
    }
    #[inline(always)]
    fn times_power(self, a: Self::F, exponents: Self::F) -> Self::F {
        avx512!({
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(exponents));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shifted))
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        avx512!(_mm512_set1_epi32(value))
    }
    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I {
        avx512!(_mm512_loadu_si512(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::I) -> Self::I {
        avx512!(_mm512_and_si512(bytes, _mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::I) -> Self::I {
        avx512!(_mm512_and_si512(
            _mm512_srli_epi32::<4>(bytes),
            _mm512_set1_epi8(15)
        ))
    }
    #[inline(always)]
    fn or_shifted(self, low: Self::I, high: Self::I, by: i32, mask: u8) -> Self::I {
        avx512!({
            let shifted = if by < 0 {
                _mm512_srlv_epi32(high, _mm512_set1_epi32(-by))
            } else {
                _mm512_sllv_epi32(high, _mm512_set1_epi32(by))
            };
            let mask = _mm512_set1_epi8(mask.cast_signed());
            _mm512_or_si512(low, _mm512_and_si512(shifted, mask))
        })
    }
    #[inline(always)]
    fn dot4(self, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        avx512!(_mm512_dpbusd_epi32(sum, a, x))
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        avx512!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn with_bits(self, bits: Self::I) -> Self::F {
        avx512!(_mm512_castsi512_ps(bits))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        avx512!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn low_bytes(self, a: Self::I) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        avx512!(_mm_storeu_si128(
            bytes.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(a)
        ));
        bytes
    }
    #[inline(always)]
    fn reduce_add_int(self, a: Self::I) -> i32 {
        avx512!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        avx512!({
            let (low, high) = (_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            avx2::reduce_max(_mm256_max_ps(low, high))
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        avx512!({
            let (low, high) = (_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            avx2::reduce_add(_mm256_add_ps(low, high))
        })
    }
    #[inline(always)]
    fn max_of_each(self, vectors: [Self::F; LANES]) -> Self::F {
        reduce_each!(vectors, _mm512_max_ps)
    }
    #[inline(always)]
    fn add_of_each(self, vectors: [Self::F; LANES]) -> Self::F {
        reduce_each!(vectors, _mm512_add_ps)
    }
    #[inline(always)]
    fn dot2(self, sum: Self::F, a: Self::I, b: Self::I) -> Self::F {
        // SAFETY: as in `avx512!`; both types are 64 bytes in which every bit pattern is valid.
        unsafe {
            let (a, b) = (
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b),
            );
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
    #[inline(always)]
    fn dot2_apart(self, sums: [Self::F; 2], a: Self::I, b: Self::I) -> [Self::F; 2] {
        avx512!({
            let firsts = |pairs| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
            let upper = _mm512_set1_epi32(!0xffff);
            let seconds = |pairs| _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
            [
                _mm512_fmadd_ps(firsts(a), firsts(b), sums[0]),
                _mm512_fmadd_ps(seconds(a), seconds(b), sums[1]),
            ]
        })
    }
    #[inline(always)]
    fn load_signed_bytes(self, bytes: &[i8; 2 * LANES]) -> Self::I {
        avx512!(_mm512_cvtepi8_epi16(_mm256_loadu_si256(
            bytes.as_ptr().cast()
        )))
    }
    #[inline(always)]
    fn dot2_int(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        avx512!(_mm512_dpwssd_epi32(sum, a, b))
    }
    #[inline(always)]
    fn low_halves(self, a: Self::I) -> Self::I {
        avx512!(_mm512_and_si512(a, _mm512_set1_epi32(0xffff)))
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        let mut halves = [0; LANES];
        avx512!({
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(a));
            _mm256_storeu_si256(halves.as_mut_ptr().cast(), rounded);
        });
        halves
    }
}
