//! Sixteen lanes of f32 and of i32, on whatever vectors the machine has.
//!
//! A *tier* is a way to compute on sixteen lanes. A kernel is written once, generic over its tier,
//! and compiled once for each; every tier rounds alike, so that all give the same bits. A tier's value
//! can only be had once the machine is known to have its instructions, which makes its methods safe.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

use half::f16;

pub(crate) use portable::Portable;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// One tier. All methods act lane by lane.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, or the 64 bytes in their place.
    type I: Copy;

    /// Runs `kernel` compiled for this tier's instructions.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, values: &[f32; LANES]) -> Self::F;
    fn load_f16(self, values: &[f16; LANES]) -> Self::F;
    /// As `load_f16`, of little-endian bytes.
    fn load_f16_bytes(self, bytes: &[u8; 2 * LANES]) -> Self::F;
    fn store(self, vector: Self::F, out: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Reads each lane's bits as an integer n plus a constant whose low nine bits are zero, and gives
    /// 2^n: the last step of an exponential.
    fn exponent_of_bits(self, a: Self::F) -> Self::F;

    fn splat_int(self, value: i32) -> Self::I;
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I;
    /// The low four bits of every byte.
    fn low_nibbles(self, bytes: Self::I) -> Self::I;
    /// The high four bits of every byte.
    fn high_nibbles(self, bytes: Self::I) -> Self::I;
    /// `sum + a0*x0 + a1*x1 + a2*x2 + a3*x3` in each lane, of its four unsigned bytes `a` and the four
    /// signed bytes of `x`.
    fn dot4(self, sum: Self::I, a: Self::I, x: i32) -> Self::I;
    fn to_f32(self, a: Self::I) -> Self::F;

    /// e^x for x <= 0, within 2 units in the last place; below -87 about 1e-38.
    ///
    /// x = n ln 2 + r with n a whole number; e^r by its Taylor polynomial, |r| <= ln 2 / 2.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        // Adding 1.5 * 2^23 rounds to whole numbers and leaves n in the low bits.
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        const TAYLOR: [f32; 7] = [
            1.0 / 5040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
        ];
        let x = self.max(x, self.splat(-87.0));
        let shifted = self.mul_add(x, self.splat(std::f32::consts::LOG2_E), self.splat(ROUND));
        let n = self.add(shifted, self.splat(-ROUND));
        let r = self.mul_add(n, self.splat(-LN_2_HIGH), x);
        let r = self.mul_add(n, self.splat(-LN_2_LOW), r);
        let mut sum = self.splat(TAYLOR[0]);
        for coefficient in &TAYLOR[1..] {
            sum = self.mul_add(sum, r, self.splat(*coefficient));
        }
        let sum = self.mul_add(sum, r, self.splat(1.0));
        self.mul(sum, self.exponent_of_bits(shifted))
    }

    /// The sum of the lanes, by halves: always in the same order.
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(a, &mut lanes);
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        lanes[0]
    }
}

/// Work that is compiled once for each tier. Everything it calls with a tier must be
/// `#[inline(always)]`: code of a tier is only fast inside a function that may use its instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}
