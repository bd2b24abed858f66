//! Products of squares of bf16, on a unit of the machine that multiplies them whole: AMX (Intel, from Sapphire Rapids on).
//!
//! A *square* is up to sixteen lines of up to 64 bytes; AMX calls it a tile, which in this crate is sixteen output rows of a matrix.
//! A product is of a left square, sixteen rows of pairs of bf16, and a right one, whose line `i` has pair `i` of each of sixteen
//! columns; it is sixteen rows of sixteen f32. Keys and values lie in pages as right squares do (see [`crate::KvPool`]).
//!
//! A unit adds a product to what there is in an order of its own: to zero the products of first numbers of pairs, one after
//! another; to another zero those of second ones; then both to each other, and that to the sum so far. Each addition of a product is
//! a fused multiply-add. A sum depends on its own row and column alone, so that rows can be taken together in any number. What is
//! denormal counts as zero: as `cpu::round` has it, nothing is.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(test)]
pub(crate) mod scalar;

use crate::simd::{Kernel, LANES, Simd};

/// Elements of keys and values that are taken together: two squares of keys, four of values.
pub(crate) const N_ELEMENTS: usize = 4 * LANES;
/// Positions of a vector of scores, whose values are a square of half as many lines.
pub(crate) const N_POSITIONS: usize = LANES;

/// Where a square begins, and the bytes from one of its lines to the next.
#[derive(Clone, Copy)]
pub(crate) struct Lines<T> {
    pub(crate) start: *mut T,
    pub(crate) stride: usize,
}

/// A machine's unit. A value exists only where there is one.
pub(crate) trait Unit: Copy {
    /// Sets the calling thread's unit up for what follows.
    fn set_up(self);
    /// Ends that: the system has nothing to save then when it takes the thread from its core.
    fn release(self);

    /// Scores of sixteen queries and, for each of `keys`, sixteen positions: the products of [`N_ELEMENTS`] elements, two squares one
    /// behind the other, are added to zero (`are_first`) or to what there is. Each vector of positions goes behind the last.
    ///
    /// # Safety
    /// The thread's unit is set up. Of `queries`, sixteen lines of two times sixteen pairs can be read; from each of `keys` on, two
    /// times sixteen lines of sixteen pairs, `key_stride` bytes apart; and sixteen lines of `scores` be written.
    unsafe fn add_scores(
        self,
        queries: Lines<i32>,
        keys: &[*const u8],
        key_stride: usize,
        scores: Lines<f32>,
        are_first: bool,
    );

    /// Adds to `sums`, sixteen queries' [`N_ELEMENTS`] sums, the values of sixteen positions after another, each eight lines of four times
    /// sixteen pairs from one of `values` on, times their weights, of which each query has eight pairs after another.
    ///
    /// # Safety
    /// The thread's unit is set up. All that has been said can be read, and the sums be written.
    unsafe fn add_values(
        self,
        weights: Lines<i32>,
        values: &[*const u8],
        value_stride: usize,
        sums: Lines<f32>,
    );
}

/// Work that has a way to use a unit, which is set up.
pub(crate) trait UnitKernel: Kernel {
    fn run_with_unit<S: Simd, U: Unit>(self, s: S, unit: U) -> Self::Output;
}

/// A kernel and the unit it uses.
pub(crate) struct WithUnit<K, U> {
    pub(crate) kernel: K,
    pub(crate) unit: U,
}

impl<K: UnitKernel, U: Unit> Kernel for WithUnit<K, U> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.kernel.run_with_unit(s, self.unit)
    }
}
