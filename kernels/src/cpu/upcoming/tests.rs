//! Which lines are fetched, and in which order.

use half::bf16;

use super::*;
use crate::KvShape;

const SHAPE: KvShape = KvShape {
    n_layers: 3,
    n_pages: 12,
    page_size: 16,
    n_kv_heads: 2,
    head_dim: 64,
};

/// The addresses of the first lines that `n` fetches ask for.
fn fetched(upcoming: &Upcoming, n: usize) -> Vec<usize> {
    let each = (0..n).filter_map(|_| {
        let (run_idx, n_fetched) = upcoming.next.get();
        upcoming.fetch();
        Some(upcoming.runs.get(run_idx)? + n_fetched)
    });
    each.collect()
}

/// Keys and values of a head in a page, in steps of what is fetched together.
fn lines(kv: &KvPool<bf16>, layer_idx: usize, page: u32, head_idx: usize) -> Vec<usize> {
    let keys = kv.keys(layer_idx, page, head_idx).as_ptr_range();
    let values = kv.values(layer_idx, page, head_idx).as_ptr_range();
    assert_eq!(keys.end, values.start, "values lie behind keys");
    let all = keys.start.addr()..values.end.addr();
    all.step_by(N_LINES * LINE).collect()
}

#[test]
fn what_was_read_is_fetched_once_and_in_order_from_the_next_layer() {
    let kv = KvPool::new(SHAPE).expect("a small pool");
    let mut upcoming = Upcoming::default();
    for (layer_idx, next) in [(0, 1), (1, 2), (2, 0)] {
        upcoming.clear();
        upcoming.note(&kv, layer_idx, 1, &[3, 11]);
        upcoming.note(&kv, layer_idx, 0, &[0]);
        let expected = [(3, 1), (11, 1), (0, 0)].map(|(page, head)| lines(&kv, next, page, head));
        let expected = expected.concat();
        // Four kilobytes of keys and of values are sixteen fetches of four lines; more fetch nothing.
        assert_eq!(expected.len(), 3 * 16);
        assert_eq!(fetched(&upcoming, expected.len() + 5), expected);
    }
}

#[test]
fn what_was_not_fetched_is_forgotten_and_nothing_noted_is_nothing_fetched() {
    let kv = KvPool::new(SHAPE).expect("a small pool");
    let mut upcoming = Upcoming::default();
    assert_eq!(fetched(&upcoming, 3), []);
    upcoming.note(&kv, 0, 0, &[1, 2]);
    assert_eq!(fetched(&upcoming, 7), lines(&kv, 1, 1, 0)[..7]);
    upcoming.clear();
    upcoming.note(&kv, 1, 0, &[4]);
    assert_eq!(fetched(&upcoming, 40), lines(&kv, 2, 4, 0));
}
