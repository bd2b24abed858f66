//! Keys and values that the next layer will read, asked for while products keep the machine busy with something else.
//!
//! A decode step of many sequences multiplies for longer than its weights take to come, and then waits for keys and
//! values. The next layer reads the pages that this one has read, so a thread notes where they are when it attends, and
//! the blocks that it multiplies until it attends again fetch some lines each. What is fetched changes no result.

#[cfg(test)]
mod tests;

use std::cell::Cell;

use crate::kv::{KvElement, KvPool};
use crate::lines::LINE;
use crate::simd;

/// Lines fetched together.
const N_LINES: usize = 4;

/// What one thread fetches until it attends again. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Upcoming {
    /// Where each page's keys of a head begin, its values behind them. Nothing is read through these addresses, so it does
    /// not matter whether the memory is still there.
    runs: Vec<usize>,
    /// Bytes of a run.
    n_bytes: usize,
    /// The run that is fetched next, and how many of its bytes have been.
    next: Cell<(usize, usize)>,
}

impl Upcoming {
    /// Forgets what has not been fetched.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.next.set((0, 0));
    }

    /// Adds what the layer after `layer_idx` will read of a head in some pages. After the last comes the first one of the
    /// next step.
    pub(crate) fn note<T: KvElement>(
        &mut self,
        kv: &KvPool<T>,
        layer_idx: usize,
        head_idx: usize,
        pages: &[u32],
    ) {
        let next_layer = (layer_idx + 1) % kv.shape.n_layers;
        self.n_bytes = kv.shape.head_bytes::<T>();
        let start = |page| kv.keys(next_layer, page, head_idx).as_ptr().addr();
        self.runs.extend(pages.iter().map(|&page| start(page)));
    }

    /// Asks for the next few lines.
    #[inline(always)]
    pub(crate) fn fetch(&self) {
        let (run_idx, n_fetched) = self.next.get();
        let Some(run) = self.runs.get(run_idx) else {
            return;
        };
        let first = std::ptr::without_provenance::<u8>(run.wrapping_add(n_fetched));
        for line_idx in 0..N_LINES {
            simd::prefetch(first.wrapping_add(line_idx * LINE));
        }
        let n_fetched = n_fetched + N_LINES * LINE;
        let is_whole = n_fetched >= self.n_bytes;
        self.next.set(if is_whole {
            (run_idx + 1, 0)
        } else {
            (run_idx, n_fetched)
        });
    }
}
