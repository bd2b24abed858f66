//! Products of squares of bf16 and of bytes, on a unit of the machine that multiplies them whole: AMX (Intel, from Sapphire
//! Rapids on).
//!
//! A *square* is up to sixteen lines of up to 64 bytes; AMX calls it a tile, which in this crate is sixteen output rows of a matrix.
//! A product of bf16 is of a left square, sixteen rows of pairs of bf16, and a right one, whose line `i` has pair `i` of each of sixteen
//! columns; it is sixteen rows of sixteen f32. Keys and values lie in pages as right squares do (see [`crate::KvPool`]).
//!
//! A unit adds a product to what there is in an order of its own: to zero the products of first numbers of pairs, one after
//! another; to another zero those of second ones; then both to each other, and that to the sum so far. Each addition of a product is
//! a fused multiply-add. A sum depends on its own row and column alone, so that rows can be taken together in any number. What is
//! denormal counts as zero: as `cpu::round` has it, nothing is.
//!
//! A product of bytes is of up to sixteen columns' signed activations, a left square, and sixteen rows' unsigned weights (see
//! `cpu::matrix::whole`), a right one, whose line `i` has group `i` of four inputs of each row. Its sums are exact.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(test)]
pub(crate) mod scalar;

use crate::lines::LINE;
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

/// Bytes of a whole square.
pub(crate) const SQUARE: usize = LANES * LINE;

/// What a unit is set up for.
#[derive(Clone, Copy)]
pub(crate) enum SetUp {
    /// Squares of bf16.
    Attention,
    /// Squares of bytes, of so many columns.
    Bytes { n_columns: usize },
}

/// Whether the high and the low bytes of so many columns are lines of one square, in turn, or of a square each.
pub(crate) const fn are_together(n_columns: usize) -> bool {
    2 * n_columns <= LANES
}

/// Columns and weights of a step: a line of high bytes and one of low ones of each column, and two squares of weights, one of each tile.
pub(crate) struct ByteStep<'a> {
    /// Both planes of as many columns as the unit is set up for, one behind the other, from this step on; the last may end
    /// behind it.
    pub(crate) planes: &'a [i32],
    /// Lanes of a plane.
    pub(crate) stride: usize,
    pub(crate) weights: &'a [[u8; SQUARE]; 2],
}

/// Sums of products of bytes: of each left square and tile sixteen lines of sixteen i32, one a row.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct ByteSums(pub(crate) [[[[u8; LINE]; LANES]; 2]; 2]);

impl Default for ByteSums {
    fn default() -> Self {
        Self([[[[0; LINE]; LANES]; 2]; 2])
    }
}

impl ByteSums {
    /// The line of a column's plane: high or low.
    #[inline(always)]
    pub(crate) fn line<const TOGETHER: bool>(
        &self,
        plane: usize,
        tile: usize,
        column: usize,
    ) -> &[u8; LINE] {
        if TOGETHER {
            &self.0[0][tile][2 * column + plane]
        } else {
            &self.0[plane][tile][column]
        }
    }
}

/// A machine's unit. A value exists only where there is one.
pub(crate) trait Unit: Copy {
    /// The vectors of a machine that has it.
    type Vectors: Simd;

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

    /// The factors of sixteen rows as [`Unit::whole`] wants them.
    fn factors(self, factors: &[u8; LANES]) -> <Self::Vectors as Simd>::I;

    /// The whole weights of a line of codes: of its low nibbles and of its high ones, their bytes in the order of inputs.
    fn whole(
        self,
        codes: &[u8; LINE],
        factors: <Self::Vectors as Simd>::I,
    ) -> [<Self::Vectors as Simd>::I; 2];

    /// Stores a vector.
    fn store(self, vector: <Self::Vectors as Simd>::I, out: &mut [u8; LINE]);

    /// Begins sums of zero, of columns that are [`are_together`] or not. Until [`Unit::end_sums`] they are the unit's own, or in `sums`.
    ///
    /// # Safety
    /// The thread's unit is set up for [`SetUp::Bytes`].
    unsafe fn begin_sums<const TOGETHER: bool>(self, sums: &mut ByteSums);

    /// Ends sums of columns that are not [`are_together`], which are in `before` then, and begins others with the products of one step:
    /// both take no longer than the step alone.
    ///
    /// # Safety
    /// As of [`Unit::add_step`].
    unsafe fn begin_step(self, of: ByteStep<'_>, before: &mut ByteSums, sums: &mut ByteSums);

    /// Adds the products of a step.
    ///
    /// # Safety
    /// The thread's unit is set up for as many columns, each of which has such a step, and sums have been begun.
    unsafe fn add_step<const TOGETHER: bool>(self, of: ByteStep<'_>, sums: &mut ByteSums);

    /// Ends sums: writes them, of as many columns as the unit is set up for.
    ///
    /// # Safety
    /// The thread's unit is set up for [`SetUp::Bytes`], and sums have been begun.
    unsafe fn end_sums<const TOGETHER: bool>(self, sums: &mut ByteSums);
}

/// Work that has a way to use a unit, which is set up.
pub(crate) trait UnitKernel {
    type Output;

    fn run_with_unit<U: Unit>(self, s: U::Vectors, unit: U) -> Self::Output;
}

/// A kernel and what it uses, which is of the tier that runs it.
pub(crate) struct WithUnit<K, U: Unit> {
    pub(crate) kernel: K,
    pub(crate) vectors: U::Vectors,
    pub(crate) unit: U,
}

impl<K: UnitKernel, U: Unit> Kernel for WithUnit<K, U> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> K::Output {
        self.kernel.run_with_unit(self.vectors, self.unit)
    }
}
