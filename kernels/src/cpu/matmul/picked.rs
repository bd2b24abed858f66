//! Some outputs of a product: the tiles that hold them, column by column, each as the whole product computes it.

use std::ops::Range;

use super::{Pair, PairProduct, Prepared, Product, Vectors};
use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::simd::LANES;

/// Tiles that one thread takes at least: fewer are not worth waking another for.
const N_WORTHWHILE: usize = 64;

/// One tile of one column.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Item {
    column: usize,
    part_idx: usize,
    tile_idx: usize,
}

impl Product<'_> {
    /// Computes the outputs `rows[i]`, which ascend, of column `i` into `out`; what else `out` holds is unspecified.
    pub(crate) fn run_picked(
        &self,
        rows: &[&[u32]],
        pool: &mut Pool,
        vectors: Vectors,
        prepared: &mut Prepared,
        out: &mut Buffer,
    ) {
        assert_eq!(rows.len(), self.x.n_rows(), "outputs of each column");
        let items = self.items(rows);
        let task = self.task(vectors, prepared, out);
        pool.run_split(rows.len(), super::N_WORTHWHILE, |columns| {
            task.prepare(columns);
        });
        pool.run_split(items.len(), N_WORTHWHILE, |range: Range<usize>| {
            for item in &items[range] {
                let tile = (&self.matrix.parts()[item.part_idx], item.tile_idx);
                vectors.run(PairProduct {
                    task: &task,
                    pair: Pair {
                        tiles: [tile; 2],
                        n_tiles: 1,
                    },
                    columns: item.column..item.column + 1,
                });
            }
        });
    }

    /// The tiles that hold the rows, each once a column.
    fn items(&self, rows: &[&[u32]]) -> Vec<Item> {
        let parts = self.matrix.parts();
        let mut items: Vec<Item> = Vec::new();
        for (column, rows) in rows.iter().enumerate() {
            debug_assert!(rows.is_sorted(), "rows ascend");
            let mut part_idx = 0;
            for row in rows.iter().map(|&row| row as usize) {
                while row >= parts[part_idx].first_row + parts[part_idx].n_rows {
                    part_idx += 1;
                }
                let item = Item {
                    column,
                    part_idx,
                    tile_idx: (row - parts[part_idx].first_row) / LANES,
                };
                if items.last() != Some(&item) {
                    items.push(item);
                }
            }
        }
        items
    }
}
