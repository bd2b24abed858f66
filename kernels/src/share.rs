//! How work is shared out among threads: by index, so that caches stay warm, and the same way in every operation but products
//! of few rows and a great many weights.
//!
//! Where every operation splits the rows of activations alike, a thread reads what it has written itself. A line that another
//! thread has written takes as long to come as one from memory, or longer where the threads' cores share no cache.

#[cfg(test)]
mod tests;

use std::ops::Range;

/// Rows a thread that suffice for rows to be shared out, however many threads there are.
const N_ENOUGH: usize = 48;
/// Rows a thread that suffice, for each thread there is: all of them want all weights.
const N_ENOUGH_A_THREAD: usize = 3;
/// Bytes of weights that are read once by one thread, not by all, while rows are few: more than the nearer caches hold.
const N_FAR: usize = 8 << 20;
/// Rows that one pass over two tiles of weights takes together, at most.
pub(crate) const N_TOGETHER: usize = 6;

/// Whether a product's rows of activations are shared out, and not the weights that multiply them: they are enough to keep a
/// thread busy for as long as all the weights take to come to every thread.
pub(crate) fn is_by_rows(n_rows: usize, n_threads: usize) -> bool {
    n_rows >= n_threads * N_ENOUGH.min(N_ENOUGH_A_THREAD * n_threads)
}

/// Whether a product of `n_bytes` of weights is shared out by rows, where operations on so many rows are. Weights that come from
/// memory for each thread anew, where their cores share no cache, hold up a few rows: those are sent to all threads instead.
pub(crate) fn is_product_by_rows(n_rows: usize, n_bytes: usize, n_threads: usize) -> bool {
    let is_near = n_threads == 1 || n_bytes <= N_FAR;
    is_by_rows(n_rows, n_threads) && (is_near || n_rows >= n_threads * N_ENOUGH)
}

/// The part of `0..n_items` that is a thread's.
pub(crate) fn share(n_items: usize, thread_idx: usize, n_threads: usize) -> Range<usize> {
    n_items * thread_idx / n_threads..n_items * (thread_idx + 1) / n_threads
}

/// The rows of `0..n_rows` that are a thread's own. The later a row of a sequence, the more positions it attends to: of many
/// rows each thread has one run from the front and one from the back.
pub(crate) fn own_rows(n_rows: usize, thread_idx: usize, n_threads: usize) -> [Range<usize>; 2] {
    if n_rows < 2 * n_threads * N_ENOUGH {
        return [share(n_rows, thread_idx, n_threads), n_rows..n_rows];
    }
    [thread_idx, 2 * n_threads - 1 - thread_idx].map(|slice_idx| {
        let groups = share(n_rows.div_ceil(N_TOGETHER), slice_idx, 2 * n_threads);
        groups.start * N_TOGETHER..n_rows.min(groups.end * N_TOGETHER)
    })
}
