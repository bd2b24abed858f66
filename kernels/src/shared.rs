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
