//! A slice that threads write disjoint parts of.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice split by the threads themselves, where a safe split would be strided.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out parts only through `part_mut`, whose callers promise that parts of different
// threads are disjoint; T itself may be sent to another thread.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// Where the slice begins.
    #[inline]
    pub(crate) fn start(&self) -> *const T {
        self.start
    }

    /// One part of the slice.
    ///
    /// # Safety
    /// While the returned part lives, no other overlapping part may be taken.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part_mut(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        // SAFETY: the range lies within the borrowed slice, and the caller promises that nobody else
        // holds an overlapping part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Lines of `N`, `stride` apart, the first of which begins at `first`: where they end is checked once for all.
    #[inline]
    pub(crate) fn lines<const N: usize>(
        &self,
        first: usize,
        stride: usize,
        n_lines: usize,
    ) -> SharedLines<'a, T, N> {
        let end = first + n_lines.saturating_sub(1) * stride + N;
        assert!(end <= self.len, "{end} of {}", self.len);
        SharedLines {
            start: self.start.wrapping_add(first),
            stride,
            n_lines,
            borrow: PhantomData,
        }
    }

    /// One part of the slice, to be read.
    ///
    /// # Safety
    /// While the returned part lives, no overlapping part may be taken mutably.
    #[inline]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &[T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        // SAFETY: the range lies within the borrowed slice, and the caller promises that nobody writes it.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }
}

/// Lines of a [`SharedSlice`].
pub(crate) struct SharedLines<'a, T, const N: usize> {
    start: *mut T,
    stride: usize,
    n_lines: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T, const N: usize> SharedLines<'_, T, N> {
    /// Where a line begins.
    #[inline(always)]
    pub(crate) fn start(&self, idx: usize) -> *const T {
        self.start.wrapping_add(idx * self.stride)
    }

    /// One line.
    ///
    /// # Safety
    /// There is such a line, and while it lives, nothing that overlaps it may be taken.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn line_mut(&self, idx: usize) -> &mut [T; N] {
        debug_assert!(idx < self.n_lines, "line {idx} of {}", self.n_lines);
        // SAFETY: all lines lie within the borrowed slice, and the caller promises that nobody else holds a part of it.
        unsafe { &mut *self.start.add(idx * self.stride).cast() }
    }
}
