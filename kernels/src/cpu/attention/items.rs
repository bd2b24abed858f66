//! How a batch's attention is dealt out: work items, and which sequences are attended to together.

#[cfg(test)]
mod tests;

use super::{Element, Inputs};
use crate::AttentionSpan;
use crate::kv::KvShape;

/// The least number of positions of a stride.
const MIN_STRIDE: usize = 128;
/// Rows of a work item.
const N_ROWS: usize = 8;

/// One key head and some rows: of one span, or of several that have one row each and share their first pages.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) spans: &'a [AttentionSpan<'a>],
    pub(super) kv_head: usize,
    /// The first row of a single span.
    pub(super) first: usize,
    pub(super) n_rows: usize,
    /// Positions that the spans share, whole strides; none of a single one.
    pub(super) n_shared: usize,
}

impl<'a> Item<'a> {
    /// The row of the batch and the position of its `idx`-th row.
    #[inline(always)]
    pub(super) fn row(&self, idx: usize) -> (usize, usize) {
        let (span, offset) = match self.spans {
            [span] => (span, self.first + idx),
            spans => (&spans[idx], 0),
        };
        (span.first_row + offset, span.start + offset)
    }

    /// The pages that rows of each span see, those that are shared once.
    pub(super) fn pages<T>(&self, inputs: &Inputs<'_, T>) -> impl Iterator<Item = &'a [u32]> {
        let (page_size, layer, n_shared) = (inputs.kv.shape.page_size, inputs.layer, self.n_shared);
        self.spans.iter().enumerate().map(move |(i, span)| {
            let own = if i == 0 { 0 } else { n_shared };
            let first = layer.first_seen(span.start).max(own) / page_size;
            let end = (span.start + span.n_rows).div_ceil(page_size);
            &span.pages[first.min(end)..end]
        })
    }
}

/// All items: rows one key head after another, so that a head's keys and values stay in the nearer caches.
pub(super) fn items<'a, T: Element>(
    inputs: &'a Inputs<'a, T>,
    n_threads: usize,
) -> impl Iterator<Item = Item<'a>> {
    let shape = inputs.kv.shape;
    let mut rest = inputs.spans;
    let groups = std::iter::from_fn(move || {
        let (n_spans, n_shared) = sharing(rest, &shape, n_threads);
        let (spans, others) = rest.split_at(n_spans);
        rest = others;
        (n_spans > 0).then_some((spans, n_shared))
    });
    groups.flat_map(move |(spans, n_shared)| {
        let n_rows: usize = spans.iter().map(|span| span.n_rows).sum();
        (0..shape.n_kv_heads).flat_map(move |kv_head| {
            (0..n_rows).step_by(N_ROWS).map(move |first| Item {
                spans,
                kv_head,
                first,
                n_rows: N_ROWS.min(n_rows - first),
                n_shared,
            })
        })
    })
}

/// How many of the first spans make items together, at least one if there is one, and how many positions these share.
fn sharing(spans: &[AttentionSpan<'_>], shape: &KvShape, n_threads: usize) -> (usize, usize) {
    let stride = stride(shape.page_size);
    let Some((first, others)) = spans.split_first() else {
        return (0, 0);
    };
    let alone = (1, 0);
    if first.n_rows != 1 {
        return alone;
    }
    // Whole strides that both see from end to end.
    let shared_with = |span: &AttentionSpan<'_>| {
        let same = first
            .pages
            .iter()
            .zip(span.pages)
            .take_while(|(a, b)| a == b);
        let n_seen = first.start.min(span.start) + 1;
        n_seen.min(same.count() * shape.page_size) / stride * stride
    };
    let alike = others.iter().map(|span| {
        if span.n_rows == 1 {
            shared_with(span)
        } else {
            0
        }
    });
    let alike = alike.take_while(|&n_shared| n_shared > 0);
    let n_alike = 1 + alike.clone().count();
    // As few groups as leave every thread as much to do, or nearly.
    let is_even = |n_groups: &usize| {
        let n_items = n_groups * shape.n_kv_heads;
        n_items.is_multiple_of(n_threads) || n_items >= 4 * n_threads
    };
    let n_groups = (n_alike.div_ceil(N_ROWS)..n_alike).find(is_even);
    let n_spans = n_groups.map_or(1, |n_groups| n_alike.div_ceil(n_groups));
    (n_spans, alike.take(n_spans - 1).min().unwrap_or(0))
}

/// Positions of a stride.
pub(super) fn stride(page_size: usize) -> usize {
    page_size * MIN_STRIDE.div_ceil(page_size)
}
