//! Memory for weights, and for keys and values: cache lines on huge pages; of weights one matrix after another.
//!
//! A step reads every weight once, and all keys and values of its sequences. On pages of four kilobytes each of them
//! costs a walk through the page tables for 64 lines, which halves the rate at which one core reads.

use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

use crate::KernelError;

/// Bytes of a line.
pub(crate) const LINE: usize = 64;
/// Bytes asked for at a time.
const CHUNK: usize = 64 << 20;
/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Gives out zeroed memory, in the order in which it is asked for, from chunks that live as long as any part of them.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunk: Option<Arc<MmapRaw>>,
    n_used: usize,
}

/// Bytes that begin on a cache line.
#[derive(Debug)]
pub(crate) struct Lines {
    chunk: Arc<MmapRaw>,
    start: usize,
    n_bytes: usize,
}

impl Arena {
    /// `n_bytes` zeros.
    pub(crate) fn zeroed(&mut self, n_bytes: usize) -> Result<Lines, KernelError> {
        let n_reserved = n_bytes.next_multiple_of(LINE);
        let chunk = match &self.chunk {
            Some(chunk) if n_reserved <= chunk.len() - self.n_used => Arc::clone(chunk),
            _ => {
                let chunk = Arc::new(map("weights", n_reserved.max(CHUNK))?);
                self.n_used = 0;
                self.chunk.insert(chunk).clone()
            }
        };
        let start = self.n_used;
        self.n_used += n_reserved;
        Ok(Lines {
            chunk,
            start,
            n_bytes,
        })
    }
}

fn map(what: &'static str, n_bytes: usize) -> Result<MmapRaw, KernelError> {
    let refused = KernelError::Memory { what, n_bytes };
    let Some(n_whole) = n_bytes.checked_next_multiple_of(HUGE_PAGE) else {
        return Err(refused);
    };
    let chunk = MmapMut::map_anon(n_whole).map_err(|_| refused)?;
    // A wish: without huge pages everything is right and slower.
    #[cfg(target_os = "linux")]
    let _ = chunk.advise(memmap2::Advice::HugePage);
    Ok(MmapRaw::from(chunk))
}

impl Lines {
    /// `n_bytes` zeros that share their memory with nothing else. What is never written is never touched.
    pub(crate) fn alone(what: &'static str, n_bytes: usize) -> Result<Self, KernelError> {
        Ok(Self {
            chunk: Arc::new(map(what, n_bytes.max(1))?),
            start: 0,
            n_bytes,
        })
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the arena has given this part of the chunk, which is mapped, to nobody else, and it is written only
        // through a unique borrow of these lines.
        unsafe { std::slice::from_raw_parts(self.chunk.as_ptr().add(self.start), self.n_bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.chunk.as_mut_ptr();
        // SAFETY: as in `bytes`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.start), self.n_bytes) }
    }
}
