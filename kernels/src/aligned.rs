//! Memory for activations: numbers that begin on a cache line.
//!
//! A vector of sixteen f32 is a line. Where the allocator begins elsewhere, every vector crosses from one line to the next, and
//! is loaded and stored in two parts.

use std::ops::{Deref, DerefMut};

use crate::lines::LINE;

/// Numbers, the first of which begins a cache line.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    room: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self {
            room: Vec::new(),
            start: 0,
            len: 0,
        }
    }
}

impl<T: Copy + Default> Aligned<T> {
    /// Sets how many there are; what they are is unspecified.
    pub(crate) fn resize(&mut self, len: usize) {
        let n_spare = LINE / size_of::<T>();
        if self.room.len() < len + n_spare {
            self.room.resize(len + n_spare, T::default());
            self.start = self.room.as_ptr().align_offset(LINE).min(n_spare);
        }
        self.len = len;
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut cloned = Self::default();
        cloned.resize(self.len);
        cloned.copy_from_slice(self);
        cloned
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.room[self.start..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.room[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_on_a_line_whenever_there_are_more_of_them_and_when_they_are_cloned() {
        let mut numbers = Aligned::<f32>::default();
        for len in [1, 100, 3, 1_000, 100_000] {
            numbers.resize(len);
            numbers.fill(len as f32);
            for numbers in [&numbers, &numbers.clone()] {
                assert_eq!(numbers.as_ptr().addr() % LINE, 0, "{len}");
                assert_eq!(**numbers, vec![len as f32; len]);
            }
        }
    }
}
