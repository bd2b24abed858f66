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
pub(crate) struct Strided<T> {
    pub(crate) start: *mut T,
    pub(crate) stride: usize,
}

/// Scores of sixteen queries and some vectors of sixteen positions, one behind the other.
pub(crate) struct Scores<'a> {
    /// Sixteen lines of two times sixteen pairs.
    pub(crate) queries: Strided<i32>,
    /// Two squares of keys each, one behind the other: lines of sixteen pairs, so many bytes apart.
    pub(crate) keys: &'a [*const u8],
    pub(crate) key_stride: usize,
    /// Sixteen lines.
    pub(crate) scores: Strided<f32>,
    /// Whether nothing has been written there yet.
    pub(crate) are_first: bool,
}

/// Weighted values of some vectors of sixteen positions, one behind the other, of sixteen queries.
pub(crate) struct Values<'a> {
    /// Sixteen lines, of each vector eight pairs.
    pub(crate) weights: Strided<i32>,
    /// Eight lines of four times sixteen pairs each, so many bytes apart.
    pub(crate) values: &'a [*const u8],
    pub(crate) value_stride: usize,
    /// Sixteen lines of [`N_ELEMENTS`].
    pub(crate) sums: Strided<f32>,
}

/// A machine's unit. A value exists only where there is one.
pub(crate) trait Unit: Copy {
    /// Adds the products of [`N_ELEMENTS`] elements to scores.
    ///
    /// # Safety
    /// The thread's unit is set up; what is described can be read, and the scores be written.
    unsafe fn add_scores(self, of: Scores<'_>);

    /// Adds weighted values to sums.
    ///
    /// # Safety
    /// The thread's unit is set up; what is described can be read, and the sums be written.
    unsafe fn add_values(self, of: Values<'_>);
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
