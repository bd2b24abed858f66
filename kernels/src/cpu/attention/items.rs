//! How the rows of attention are cut into work items, and shared out among threads.

use std::ops::Range;

use super::Inputs;
use crate::AttentionSpan;
use crate::share::{is_by_rows, own_rows};

/// One key head and some rows of one span.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) span: AttentionSpan<'a>,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    pub(super) n_rows: usize,
}

impl<'a> Item<'a> {
    /// The pages that the span's first row sees, and later ones.
    pub(super) fn pages<T>(&self, inputs: &Inputs<'_, T>) -> &'a [u32] {
        let page_size = inputs.kv.shape.page_size;
        let first = inputs.layer.first_seen(self.span.start) / page_size;
        let end = (self.span.start + self.span.n_rows).div_ceil(page_size);
        &self.span.pages[first..end]
    }
}

/// The items of some rows: a span's rows one key head after another, so that a head's keys and values stay in the nearer caches.
pub(super) fn items<'a, T>(
    inputs: &'a Inputs<'a, T>,
    runs: &'a [Range<usize>; 2],
    n_item_rows: usize,
) -> impl Iterator<Item = Item<'a>> {
    inputs.spans.iter().flat_map(move |&span| {
        (0..inputs.kv.shape.n_kv_heads).flat_map(move |kv_head| {
            let runs = runs.iter().map(move |run| within(span, run));
            runs.flat_map(move |run| {
                run.clone().step_by(n_item_rows).map(move |first| Item {
                    span,
                    kv_head,
                    first,
                    n_rows: n_item_rows.min(run.end - first),
                })
            })
        })
    })
}

/// Those of a span's rows that are among some of the batch.
fn within(span: AttentionSpan<'_>, rows: &Range<usize>) -> Range<usize> {
    let offset =
        |row: usize| row.clamp(span.first_row, span.first_row + span.n_rows) - span.first_row;
    offset(rows.start)..offset(rows.end)
}

/// Whether each thread's own rows see about as many positions as another's. Otherwise items are dealt out in turn.
pub(super) fn are_even<T>(inputs: &Inputs<'_, T>, n_threads: usize) -> bool {
    let n_rows = inputs.x.n_rows();
    if !is_by_rows(n_rows, n_threads) {
        return false;
    }
    let seen = |span: AttentionSpan<'_>, offset: usize| {
        let position = span.start + offset;
        position + 1 - inputs.layer.first_seen(position)
    };
    let n_seen = (0..n_threads).map(|thread_idx| {
        let runs = own_rows(n_rows, thread_idx, n_threads);
        let parts = inputs.spans.iter().flat_map(|&span| {
            let offsets = runs.clone().map(|run| within(span, &run));
            offsets
                .into_iter()
                .flatten()
                .map(move |offset| (span, offset))
        });
        parts
            .map(|(span, offset)| seen(span, offset))
            .sum::<usize>()
    });
    let n_seen: Vec<usize> = n_seen.collect();
    let most = n_seen.iter().max().expect("a thread");
    most * n_threads <= n_seen.iter().sum::<usize>() * 9 / 8
}
