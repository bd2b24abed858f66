//! Plans of attention: every row sees every position exactly once, and prefixes are shared.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::AttentionSpan;
use crate::cuda::plan::{ITEM_LEN, Plan, PlanShape, TILE_LEN};

/// Rows, start, whether it begins with the common pages.
type Spans = Vec<(usize, usize, bool)>;

fn tables(spans: &Spans, page_size: usize) -> Vec<Vec<u32>> {
    let table = |(idx, &(n_rows, start, is_shared)): (usize, &(usize, usize, bool))| {
        let n_pages = (start + n_rows).div_ceil(page_size);
        let own = 100_000 * (idx as u32 + 1);
        let n_shared = if is_shared { start / page_size } else { 0 };
        (0..n_pages as u32)
            .map(|page| {
                if (page as usize) < n_shared {
                    page
                } else {
                    own + page
                }
            })
            .collect()
    };
    spans.iter().enumerate().map(table).collect()
}

fn plan(spans: &Spans, tables: &[Vec<u32>], shape: PlanShape) -> Plan {
    let mut first_row = 0;
    let spans: Vec<_> = spans
        .iter()
        .zip(tables)
        .map(|(&(n_rows, start, _), pages)| {
            first_row += n_rows;
            AttentionSpan {
                first_row: first_row - n_rows,
                n_rows,
                start,
                pages,
            }
        })
        .collect();
    Plan::new(&spans, shape)
}

proptest! {
    #[test]
    fn every_row_and_head_sees_each_tile_once(
        spans in proptest::collection::vec((1..40usize, 0..900usize, any::<bool>()), 1..8),
        page_size in prop_oneof![Just(1usize), Just(7), Just(16), Just(300)],
        group_len in 1..20usize,
        has_whole in any::<bool>(),
        n_split_tiles in prop_oneof![Just(2usize), Just(4)],
    ) {
        let shape = PlanShape { group_len, page_size, n_split_tiles, has_whole };
        let tables = tables(&spans, page_size);
        let plan = plan(&spans, &tables, shape);
        // Sequence and position of each row.
        let mut rows = Vec::new();
        for (sequence, &(n_rows, start, _)) in spans.iter().enumerate() {
            rows.extend((start..start + n_rows).map(|position| (sequence, position)));
        }
        // How often the tiles of a row and head are computed, and by which kernel.
        let mut seen: HashMap<(usize, usize, usize), usize> = HashMap::new();
        for (items, is_whole) in [(&plan.whole_items, true), (&plan.split_items, false)] {
            for item in items.chunks_exact(ITEM_LEN) {
                let &[first_entry, first, n, first_tile, n_tiles, first_page, n_positions] = item else { panic!() };
                let limit = if is_whole { 64 } else { 16 };
                prop_assert!(n > 0 && n <= limit);
                prop_assert!(is_whole || n_tiles as usize <= n_split_tiles);
                for lane_row in first..first + n {
                    let entry = first_entry as usize + lane_row as usize / group_len;
                    let &[row, last, _] = &plan.entries[3 * entry..3 * entry + 3] else { panic!() };
                    let (sequence, position) = rows[row as usize];
                    prop_assert_eq!(last as usize, position);
                    for tile in first_tile as usize..(first_tile + n_tiles) as usize {
                        if tile * TILE_LEN > position {
                            continue;
                        }
                        *seen.entry((row as usize, lane_row as usize % group_len, tile)).or_default() += 1;
                        let end = position.min(tile * TILE_LEN + TILE_LEN - 1);
                        for seen in tile * TILE_LEN..=end {
                            prop_assert!(seen < n_positions as usize);
                            let page = plan.pages[first_page as usize + seen / page_size];
                            prop_assert_eq!(page, tables[sequence][seen / page_size]);
                        }
                    }
                }
            }
        }
        let expected: usize = rows.iter().map(|(_, position)| (position / TILE_LEN + 1) * group_len).sum();
        prop_assert_eq!(seen.len(), expected);
        prop_assert!(seen.values().all(|&n_times| n_times == 1));
    }

    /// Partials of different rows do not overlap.
    #[test]
    fn partials_are_apart(spans in proptest::collection::vec((1..3usize, 0..900usize, any::<bool>()), 1..8)) {
        let shape = PlanShape { group_len: 1, page_size: 16, n_split_tiles: 4, has_whole: false };
        let plan = plan(&spans, &tables(&spans, 16), shape);
        let mut next = 0;
        for merge in plan.merges.chunks_exact(3) {
            prop_assert_eq!(merge[2], next);
            next += merge[1] / TILE_LEN as i32 + 1;
        }
        prop_assert_eq!(next as usize, plan.n_partials);
    }
}

/// Sixteen branches of 4,096 common positions: keys and values of the prefix are read once for every 16 lane rows.
#[test]
fn branches_share_their_prefix() {
    let spans: Spans = (0..16).map(|_| (1, 4096, true)).collect();
    let shape = PlanShape {
        group_len: 4,
        page_size: 16,
        n_split_tiles: 4,
        has_whole: true,
    };
    let plan = plan(&spans, &tables(&spans, 16), shape);
    // 4,096 positions are 16 stretches of 4 tiles; 64 lane rows are 4 fragments; each has a last stretch of its own.
    assert_eq!(plan.split_items.len() / ITEM_LEN, 16 * 4 + 16);
    assert!(plan.whole_items.is_empty());
}
