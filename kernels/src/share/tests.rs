//! How items and rows are shared out.

use super::*;

#[test]
fn shares_cover_all_items_once() {
    for (n_items, n_threads) in [(0, 3), (1, 3), (30, 2), (7, 16)] {
        let shares = (0..n_threads).flat_map(|i| share(n_items, i, n_threads));
        assert!(shares.eq(0..n_items), "{n_items} of {n_threads}");
    }
}

#[test]
fn own_rows_are_all_rows_once() {
    for (n_rows, n_threads) in [
        (0, 3),
        (1, 3),
        (16, 2),
        (7, 16),
        (191, 1),
        (193, 2),
        (512, 2),
    ] {
        let own = (0..n_threads).flat_map(|i| own_rows(n_rows, i, n_threads));
        let mut all: Vec<usize> = own.flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..n_rows), "{n_rows} of {n_threads}");
    }
}

#[test]
fn of_many_rows_a_thread_has_early_and_late_ones() {
    assert_eq!(own_rows(16, 0, 2), [0..8, 16..16]);
    assert_eq!(own_rows(16, 1, 2), [8..16, 16..16]);
    // 86 groups of six, the last of two.
    assert_eq!(own_rows(512, 0, 2), [0..126, 384..512]);
    assert_eq!(own_rows(512, 1, 2), [126..258, 258..384]);
}

#[test]
fn rows_are_shared_out_where_they_are_enough_for_the_threads() {
    for (n_threads, least) in [(1, 3), (2, 12), (4, 48), (16, 768), (64, 3072)] {
        assert!(is_by_rows(least, n_threads), "{n_threads}");
        assert!(!is_by_rows(least - 1, n_threads), "{n_threads}");
    }
}

#[test]
fn rows_of_a_product_are_shared_out_where_weights_may_come_to_every_thread() {
    for (n_rows, n_threads, is_it) in [(1, 1, true), (95, 2, false), (96, 2, true), (192, 4, true)]
    {
        assert_eq!(
            is_product_by_rows(n_rows, n_threads),
            is_it,
            "{n_rows} of {n_threads}"
        );
        // What is shared out by rows there is so everywhere, or one thread has all.
        assert!(!is_it || n_threads == 1 || is_by_rows(n_rows, n_threads.min(16)));
    }
}
