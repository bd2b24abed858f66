//! How work is shared out among threads: by index, so that caches stay warm, and many rows the same way in every operation.
//!
//! Where every operation splits the rows of activations alike, a thread reads what it has written itself. A line that another
//! thread has written takes as long to come as one from memory, or longer where the threads' cores share no cache. But all
//! weights come to every thread then, so products of fewer rows split the weights.

#[cfg(test)]
mod tests;

use std::ops::Range;

/// Rows a thread that suffice for rows to be shared out, also those of products, however many threads there are.
const N_ENOUGH: usize = 48;
/// Rows a thread that suffice, for each thread there is.
const N_ENOUGH_A_THREAD: usize = 3;
/// Rows that one pass over two tiles of weights takes together, at most.
pub(crate) const N_TOGETHER: usize = 6;

/// Whether rows of activations are shared out, but not those of products (see [`is_product_by_rows`]).
pub(crate) fn is_by_rows(n_rows: usize, n_threads: usize) -> bool {
    n_rows >= n_threads * N_ENOUGH.min(N_ENOUGH_A_THREAD * n_threads)
}

/// Whether a product's rows are shared out, and not the weights that multiply them: they are enough to keep a thread busy for as
/// long as all the weights take to come to every thread.
pub(crate) fn is_product_by_rows(n_rows: usize, n_threads: usize) -> bool {
    n_threads == 1 || n_rows >= n_threads * N_ENOUGH
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
