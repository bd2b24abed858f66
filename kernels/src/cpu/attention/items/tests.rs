//! Which spans of a batch make items together.

use super::{AttentionSpan, KvShape, sharing};

const SHAPE: KvShape = KvShape {
    n_layers: 1,
    n_pages: 64,
    page_size: 64,
    n_kv_heads: 3,
    head_dim: 16,
};

/// Each begins at a position and has a block table; the row it adds is its only one.
fn first_group(tables: &[(usize, Vec<u32>)], n_threads: usize) -> (usize, usize) {
    let spans = tables
        .iter()
        .enumerate()
        .map(|(i, (start, pages))| AttentionSpan {
            first_row: i,
            n_rows: 1,
            start: *start,
            pages,
        });
    sharing(&spans.collect::<Vec<_>>(), &SHAPE, n_threads)
}

/// A branch of its own last page, behind five pages that all have.
fn branch(own: u32) -> (usize, Vec<u32>) {
    (5 * 64 + 7, vec![9, 8, 7, 6, 5, own])
}

#[test]
fn branches_share_whole_strides() {
    let branches: Vec<_> = (10..26).map(branch).collect();
    // Five pages of 64 are two strides of 128 and a half. Two groups of eight leave both threads three heads.
    assert_eq!(first_group(&branches, 2), (8, 256));
    assert_eq!(first_group(&branches[..4], 2), (2, 256));
    assert_eq!(first_group(&branches[..4], 1), (4, 256));
    assert_eq!(first_group(&branches[..1], 1), (1, 0));
    assert_eq!(first_group(&[], 1), (0, 0));
}

#[test]
fn what_differs_or_is_too_short_stays_alone() {
    let stranger = (5 * 64, vec![1, 8, 7, 6, 5, 4]);
    assert_eq!(
        first_group(&[branch(10), stranger.clone(), branch(11)], 1),
        (1, 0)
    );
    assert_eq!(
        first_group(&[branch(10), branch(11), stranger], 1),
        (2, 256)
    );
    // The second one sees no whole stride yet.
    assert_eq!(first_group(&[branch(10), (126, vec![9, 8])], 1), (1, 0));
    assert_eq!(first_group(&[branch(10), (127, vec![9, 8])], 1), (2, 128));
    // Its table ends, or differs, within the first stride.
    assert_eq!(
        first_group(&[branch(10), (327, vec![9, 4, 7, 6, 5, 3])], 1),
        (1, 0)
    );
}
