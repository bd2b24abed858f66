//! Sixteen lanes as an array: any machine.

use half::f16;

use super::{Kernel, LANES, Simd};

/// The tier of machines without one of their own, and the yardstick of the others.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn lanes<T>(each: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(each)
}

#[inline(always)]
fn high_bf16(pair: i32) -> f32 {
    f32::from_bits(pair.cast_unsigned() & 0xffff_0000)
}

#[inline(always)]
fn low_bf16(pair: i32) -> f32 {
    f32::from_bits(pair.cast_unsigned() << 16)
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];

    const IS_WIDE: bool = false;
    const TAKES_SEVERAL: bool = false;

    // As in the other tiers: kernels within kernels would become one vast function.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        *values
    }
    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::F {
        let (words, _) = bytes.as_chunks::<4>();
        lanes(|i| f32::from_le_bytes(words[i]))
    }
    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::F {
        lanes(|i| f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn store(self, vector: Self::F, out: &mut [f32; LANES]) {
        *out = vector;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn where_at_least(self, x: Self::F, bound: Self::F, a: Self::F) -> Self::F {
        lanes(|i| if x[i] >= bound[i] { a[i] } else { 0.0 })
    }
    #[inline(always)]
    fn times_power(self, a: Self::F, exponents: Self::F) -> Self::F {
        lanes(|i| f32::from_bits(a[i].to_bits().wrapping_add(exponents[i].to_bits() << 23)))
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        [value; LANES]
    }
    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I {
        let (words, _) = bytes.as_chunks::<4>();
        lanes(|i| i32::from_le_bytes(words[i]))
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::I) -> Self::I {
        lanes(|i| bytes[i] & 0x0f0f_0f0f)
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::I) -> Self::I {
        lanes(|i| (bytes[i] >> 4) & 0x0f0f_0f0f)
    }
    #[inline(always)]
    fn or_shifted(self, low: Self::I, high: Self::I, by: i32, mask: u8) -> Self::I {
        let mask = i32::from_le_bytes([mask; 4]);
        lanes(|i| {
            let shifted = if by < 0 {
                high[i] >> -by
            } else {
                high[i] << by
            };
            low[i] | shifted & mask
        })
    }
    #[inline(always)]
    fn dot4(self, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        lanes(|i| {
            let a = a[i].to_le_bytes().map(i32::from);
            let x = x[i].to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
            sum[i].wrapping_add(a[0] * x[0] + a[1] * x[1] + a[2] * x[2] + a[3] * x[3])
        })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        lanes(|i| a[i] as f32)
    }
    #[inline(always)]
    fn with_bits(self, bits: Self::I) -> Self::F {
        lanes(|i| f32::from_bits(bits[i] as u32))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        lanes(|i| a[i].to_bits().cast_signed())
    }
    #[inline(always)]
    fn low_bytes(self, a: Self::I) -> [u8; LANES] {
        a.map(|lane| lane.to_le_bytes()[0])
    }
    #[inline(always)]
    fn reduce_add_int(self, a: Self::I) -> i32 {
        a.into_iter().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    fn reduce_max(self, mut a: Self::F) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] {
                    a[i]
                } else {
                    a[i + half]
                };
            }
        }
        a[0]
    }
    #[inline(always)]
    fn reduce_add(self, mut a: Self::F) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    #[inline(always)]
    fn dot2(self, sum: Self::F, a: Self::I, b: Self::I) -> Self::F {
        lanes(|i| {
            let sum = high_bf16(a[i]).mul_add(high_bf16(b[i]), sum[i]);
            low_bf16(a[i]).mul_add(low_bf16(b[i]), sum)
        })
    }
    #[inline(always)]
    fn dot2_apart(self, sums: [Self::F; 2], a: Self::I, b: Self::I) -> [Self::F; 2] {
        [
            lanes(|i| low_bf16(a[i]).mul_add(low_bf16(b[i]), sums[0][i])),
            lanes(|i| high_bf16(a[i]).mul_add(high_bf16(b[i]), sums[1][i])),
        ]
    }
    #[inline(always)]
    fn load_signed_bytes(self, bytes: &[i8; 2 * LANES]) -> Self::I {
        let (pairs, _) = bytes.as_chunks::<2>();
        lanes(|i| i32::from(pairs[i][0]) & 0xffff | i32::from(pairs[i][1]) << 16)
    }
    #[inline(always)]
    fn dot2_int(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let low = |x: i32| i32::from(x as i16);
        let high = |x: i32| x >> 16;
        lanes(|i| {
            let products = low(a[i]) * low(b[i]) + high(a[i]) * high(b[i]);
            sum[i].wrapping_add(products)
        })
    }
    #[inline(always)]
    fn low_halves(self, a: Self::I) -> Self::I {
        a.map(|lane| lane & 0xffff)
    }
    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        lanes(|i| {
            let bits = a[i].to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            (rounded >> 16) as u16
        })
    }
}
