//! Sixteen lanes of f32 and of i32, on whatever vectors the machine has.
//!
//! A *tier* is a way to compute on sixteen lanes. A kernel is written once, generic over its tier,
//! and compiled once for each; every tier rounds alike, so that all give the same bits. A tier's value
//! can only be had once the machine is known to have its instructions, which makes its methods safe.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

pub(crate) use portable::Portable;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Adding 1.5 * 2^23 rounds to whole numbers, which are then in the low bits: its own are zero there.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Numbers below two to this power count as zero in products of bf16 (see `cpu::round`).
pub(crate) const LEAST_EXPONENT: i8 = -56;

/// One tier. All methods act lane by lane.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, or the 64 bytes in their place.
    type I: Copy;

    /// Whether there are registers for a dozen sums.
    const IS_WIDE: bool;
    /// Whether several columns, or queries, are taken together. A tier without registers for their sums takes one at a time: one way is
    /// compiled sooner than many.
    const TAKES_SEVERAL: bool;
    /// What is taken from codes of eight bits before [`Simd::add_products`] multiplies them.
    const EXCESS: i32 = 0;

    /// Runs `kernel` compiled for this tier's instructions.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, values: &[f32; LANES]) -> Self::F;
    /// Sixteen little-endian f32.
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::F;
    /// Sixteen little-endian f16.
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::F;
    fn store(self, vector: Self::F, out: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The greater; `b` where either is no number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `x` is at least `bound`, and zero elsewhere.
    fn where_at_least(self, x: Self::F, bound: Self::F, a: Self::F) -> Self::F;
    /// `a * 2^n`, where the bits of `exponents` are an integer n plus a constant whose low nine bits are zero: the last
    /// step of an exponential. Neither `a` nor the result may be denormal.
    fn times_power(self, a: Self::F, exponents: Self::F) -> Self::F;

    fn splat_int(self, value: i32) -> Self::I;
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::I;
    /// The low four bits of every byte.
    fn low_nibbles(self, bytes: Self::I) -> Self::I;
    /// The high four bits of every byte.
    fn high_nibbles(self, bytes: Self::I) -> Self::I;
    /// Each byte of `low`, or-ed with those bits of `mask` that the same byte of `high` has after a shift to the left or, if
    /// `by` is negative, to the right. The mask leaves out bits that a neighbour's shift would bring.
    fn or_shifted(self, low: Self::I, high: Self::I, by: i32, mask: u8) -> Self::I;
    /// `sum + a0*x0 + a1*x1 + a2*x2 + a3*x3` in each lane, of its four unsigned bytes `a` and four
    /// signed bytes `x`.
    fn dot4(self, sum: Self::I, a: Self::I, x: Self::I) -> Self::I;
    /// Of codes of some bits: how many groups of four products a *narrow* sum holds. The sums of most tiers are as wide as others.
    #[inline(always)]
    fn n_narrow(_n_bits: usize) -> usize {
        usize::MAX
    }
    /// A narrow sum of the products of codes `a` of `n_bits` bits and bytes `x` above -128, of codes of eight bits less
    /// [`Simd::EXCESS`]. It will be added to `sum`.
    #[inline(always)]
    fn first_products(self, _n_bits: usize, sum: Self::I, a: Self::I, x: Self::I) -> Self::I {
        self.dot4(sum, a, x)
    }
    /// The same, added to a narrow sum.
    #[inline(always)]
    fn add_products(self, _n_bits: usize, narrow: Self::I, a: Self::I, x: Self::I) -> Self::I {
        self.dot4(narrow, a, x)
    }
    /// `sum` with what has been added to a narrow sum, which began with it.
    #[inline(always)]
    fn widen(self, _sum: Self::I, narrow: Self::I) -> Self::I {
        narrow
    }
    fn to_f32(self, a: Self::I) -> Self::F;
    /// `sum + a1*b1 + a0*b0` in each lane, of its two bf16 `a` and two bf16 `b`, the second product
    /// added first: two fused multiply-adds. Neither an operand nor a sum may be denormal (see `cpu::round`), for
    /// `vdpbf16ps`, which computes this, gives zero in its place.
    fn dot2(self, sum: Self::F, a: Self::I, b: Self::I) -> Self::F;
    /// `[sums[0] + a0*b0, sums[1] + a1*b1]` in each lane, of the same: fused multiply-adds apart.
    fn dot2_apart(self, sums: [Self::F; 2], a: Self::I, b: Self::I) -> [Self::F; 2];
    /// Two signed bytes a lane, each as sixteen bits.
    fn load_signed_bytes(self, bytes: &[i8; 2 * LANES]) -> Self::I;
    /// `sum + a0*b0 + a1*b1` in each lane, of its two signed 16-bit numbers `a` and two `b`, none of them -32,768.
    fn dot2_int(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// The low sixteen bits of each lane, zeros above them.
    fn low_halves(self, a: Self::I) -> Self::I;
    /// The nearest bf16, ties to even, of each lane, which is a number and not denormal.
    fn to_bf16(self, a: Self::F) -> [u16; LANES];
    /// The floats whose bits these are.
    fn with_bits(self, bits: Self::I) -> Self::F;
    /// The bits of each lane.
    fn bits(self, a: Self::F) -> Self::I;
    /// The lowest byte of each lane.
    fn low_bytes(self, a: Self::I) -> [u8; LANES];
    /// The sum of the lanes, which wraps.
    fn reduce_add_int(self, a: Self::I) -> i32;
    /// The greatest lane, found by halves as [`Simd::reduce_add`] adds.
    fn reduce_max(self, a: Self::F) -> f32;
    /// The sum of the lanes, by halves: lane i and lane i + 8, then i and i + 4, and so on.
    fn reduce_add(self, a: Self::F) -> f32;

    /// [`Simd::reduce_max`] of vector i in lane i.
    #[inline(always)]
    fn max_of_each(self, vectors: [Self::F; LANES]) -> Self::F {
        let mut lanes = [0.0; LANES];
        for (lane, vector) in lanes.iter_mut().zip(vectors) {
            *lane = self.reduce_max(vector);
        }
        self.load(&lanes)
    }
    /// [`Simd::reduce_add`] of vector i in lane i.
    #[inline(always)]
    fn add_of_each(self, vectors: [Self::F; LANES]) -> Self::F {
        let mut lanes = [0.0; LANES];
        for (lane, vector) in lanes.iter_mut().zip(vectors) {
            *lane = self.reduce_add(vector);
        }
        self.load(&lanes)
    }

    /// e^x for x <= 0, within 2 units in the last place; below -87 about 1e-38.
    ///
    /// x = n ln 2 + r with n a whole number; e^r by its Taylor polynomial, |r| <= ln 2 / 2.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
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
        self.times_power(sum, shifted)
    }

    /// 2^x for x up to a hundred, within 8e-6 of it, exact at whole numbers; zero below [`LEAST_EXPONENT`] and where x is no number.
    ///
    /// x = n + r with n a whole number; 2^r = 1 + r g(r), |r| <= 1/2, with g interpolated at the Chebyshev nodes.
    #[inline(always)]
    fn exp2(self, x: Self::F) -> Self::F {
        const G: [f32; 4] = [0.009_656_711, 0.055_838_283, 0.240_225_3, 0.693_136_75];
        let shifted = self.add(x, self.splat(ROUND));
        let n = self.add(shifted, self.splat(-ROUND));
        let r = self.mul_add(n, self.splat(-1.0), x);
        let mut sum = self.splat(G[0]);
        for coefficient in &G[1..] {
            sum = self.mul_add(sum, r, self.splat(*coefficient));
        }
        let sum = self.mul_add(sum, r, self.splat(1.0));
        self.where_at_least(
            x,
            self.splat(f32::from(LEAST_EXPONENT)),
            self.times_power(sum, shifted),
        )
    }
}

/// Work that is compiled once for each tier. Everything it calls with a tier must be
/// `#[inline(always)]`: code of a tier is only fast inside a function that may use its instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Asks for the cache line at an address, which need not be readable, in order to write it.
#[inline(always)]
pub(crate) fn prefetch_to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, and every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch reads nothing, and every AArch64 has it.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for the cache line at an address, which need not be readable. It comes to the second cache: requests of the first are
/// few and would hold up the loads behind them, which halves the rate at which memory is read.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch_to_write`.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as in `prefetch_to_write`.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
