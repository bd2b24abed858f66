//! Which block of an attention kernel computes what: spans to items, as attention.cu reads them.
//!
//! A span of few rows is *split*: its tiles are computed beside each other and merged. Split spans whose block tables agree
//! over the tiles of an item share it (a cascade), so that keys and values of a common prefix are read once. A span of many
//! rows is computed *whole*. Both give the same bits, so the choice is one of speed alone.

use std::collections::HashMap;

use crate::AttentionSpan;

/// Positions of a tile: `TILE_LEN` in attention.cu.
pub(crate) const TILE_LEN: usize = 64;
/// Rows of a fragment.
const FRAGMENT_ROWS: usize = 16;
/// Lane rows of an item of `attention_whole`.
const WHOLE_ROWS: usize = 64;
/// Numbers of an item: `Item` in attention.cu.
pub(crate) const ITEM_LEN: usize = 7;

/// What a plan depends on beside the spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanShape {
    /// Query heads that share a key head.
    pub(crate) group_len: usize,
    pub(crate) page_size: usize,
    /// Tiles of an item of `attention_split`, one a warp.
    pub(crate) n_split_tiles: usize,
    /// Whether the head is small enough for `attention_whole`.
    pub(crate) has_whole: bool,
}

/// The arrays of a step's attention.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// All block tables, one after another.
    pub(crate) pages: Vec<u32>,
    /// Row, last position, first partial; of whole spans, then of items of split ones, which may name a row many times.
    pub(crate) entries: Vec<i32>,
    pub(crate) whole_items: Vec<i32>,
    pub(crate) split_items: Vec<i32>,
    /// As `entries`, each row of a split span once.
    pub(crate) merges: Vec<i32>,
    pub(crate) n_partials: usize,
}

/// One row of a split span.
#[derive(Debug, Clone, Copy)]
struct Row {
    row: usize,
    limit: usize,
    first_partial: usize,
}

/// Rows that read the same pages over the same tiles.
struct Shared {
    first_page: usize,
    first_tile: usize,
    n_positions: usize,
    rows: Vec<Row>,
}

impl Plan {
    /// The plan of a step.
    pub(crate) fn new(spans: &[AttentionSpan<'_>], shape: PlanShape) -> Self {
        let mut plan = Self::default();
        let mut split = Vec::new();
        for span in spans.iter().filter(|span| span.n_rows > 0) {
            let first_page = plan.pages.len();
            let n_pages = (span.start + span.n_rows).div_ceil(shape.page_size);
            plan.pages.extend_from_slice(&span.pages[..n_pages]);
            let n_lane_rows = span.n_rows * shape.group_len;
            if shape.has_whole && n_lane_rows > FRAGMENT_ROWS {
                plan.add_whole(span, first_page, shape);
            } else {
                split.push((span, first_page));
            }
        }
        plan.add_split(&split, shape);
        plan
    }

    fn add_entry(&mut self, row: Row) {
        self.entries
            .extend([row.row, row.limit, row.first_partial].map(int));
    }

    /// Items of up to 64 lane rows, over all the tiles that any of them sees.
    fn add_whole(&mut self, span: &AttentionSpan<'_>, first_page: usize, shape: PlanShape) {
        let first_entry = self.entries.len() / 3;
        for offset in 0..span.n_rows {
            self.add_entry(Row {
                row: span.first_row + offset,
                limit: span.start + offset,
                first_partial: 0,
            });
        }
        let n_lane_rows = span.n_rows * shape.group_len;
        for first in (0..n_lane_rows).step_by(WHOLE_ROWS) {
            let n = WHOLE_ROWS.min(n_lane_rows - first);
            let n_positions = span.start + (first + n - 1) / shape.group_len + 1;
            let n_tiles = n_positions.div_ceil(TILE_LEN);
            let item: [usize; ITEM_LEN] =
                [first_entry, first, n, 0, n_tiles, first_page, n_positions];
            self.whole_items.extend(item.map(int));
        }
    }

    fn add_split(&mut self, spans: &[(&AttentionSpan<'_>, usize)], shape: PlanShape) {
        let stretch_len = shape.n_split_tiles * TILE_LEN;
        let mut shared: Vec<Shared> = Vec::new();
        let mut known: HashMap<(usize, usize, &[u32]), usize> = HashMap::new();
        for &(span, first_page) in spans {
            let end = span.start + span.n_rows;
            let rows: Vec<Row> = (0..span.n_rows)
                .map(|offset| self.add_merge(span.first_row + offset, span.start + offset))
                .collect();
            for (stretch, start) in (0..end).step_by(stretch_len).enumerate() {
                let n_positions = end.min(start + stretch_len);
                let pages = start / shape.page_size..n_positions.div_ceil(shape.page_size);
                let key = (stretch, n_positions, &span.pages[pages]);
                let idx = *known.entry(key).or_insert_with(|| {
                    shared.push(Shared {
                        first_page,
                        first_tile: stretch * shape.n_split_tiles,
                        n_positions,
                        rows: Vec::new(),
                    });
                    shared.len() - 1
                });
                // Rows that see nothing of a stretch leave no partial of it.
                let seeing = rows.iter().filter(|row| row.limit >= start);
                shared[idx].rows.extend(seeing);
            }
        }
        for shared in shared {
            self.add_shared(&shared, shape);
        }
    }

    fn add_merge(&mut self, row: usize, limit: usize) -> Row {
        let row = Row {
            row,
            limit,
            first_partial: self.n_partials,
        };
        self.n_partials += limit / TILE_LEN + 1;
        self.merges
            .extend([row.row, row.limit, row.first_partial].map(int));
        row
    }

    /// Items of up to 16 lane rows. Only the tiles that all the rows of an item see, or that have partials of all.
    fn add_shared(&mut self, shared: &Shared, shape: PlanShape) {
        let first_entry = self.entries.len() / 3;
        for &row in &shared.rows {
            self.add_entry(row);
        }
        let n_tiles = shared.n_positions.div_ceil(TILE_LEN) - shared.first_tile;
        let n_lane_rows = shared.rows.len() * shape.group_len;
        for first in (0..n_lane_rows).step_by(FRAGMENT_ROWS) {
            let item: [usize; ITEM_LEN] = [
                first_entry,
                first,
                FRAGMENT_ROWS.min(n_lane_rows - first),
                shared.first_tile,
                n_tiles,
                shared.first_page,
                shared.n_positions,
            ];
            self.split_items.extend(item.map(int));
        }
    }
}

fn int(number: usize) -> i32 {
    i32::try_from(number).expect("rows, positions and pages of a step are far below 2^31")
}
