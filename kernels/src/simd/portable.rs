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

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];

    #[inline(always)]
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
    fn load_f16(self, values: &[f16; LANES]) -> Self::F {
        lanes(|i| values[i].to_f32())
    }
    #[inline(always)]
    fn load_f16_bytes(self, bytes: &[u8; 2 * LANES]) -> Self::F {
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
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn exponent_of_bits(self, a: Self::F) -> Self::F {
        lanes(|i| f32::from_bits((a[i].to_bits() << 23).wrapping_add(1.0f32.to_bits())))
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
    fn dot4(self, sum: Self::I, a: Self::I, x: i32) -> Self::I {
        let x = x
            .to_le_bytes()
            .map(|byte| i32::from(i8::from_le_bytes([byte])));
        lanes(|i| {
            let a = a[i].to_le_bytes().map(i32::from);
            sum[i].wrapping_add(a[0] * x[0] + a[1] * x[1] + a[2] * x[2] + a[3] * x[3])
        })
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        lanes(|i| a[i] as f32)
    }
}
