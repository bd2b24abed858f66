//! Some outputs of a product: the tiles that hold them, column by column, each as the whole product computes it.

use std::ops::Range;

use super::{Found, Prepared, Product, TilePair, Upcoming, Vectors};
use crate::buffer::Buffer;
use crate::pool::Pool;

/// Tiles that one thread takes at least: fewer are not worth waking another for.
const N_WORTHWHILE: usize = 64;

/// One tile of one column.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Item {
    column: usize,
    pairs_idx: usize,
    pair_idx: usize,
    which: usize,
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
            let nothing = Upcoming::default();
            // One column needs no more.
            let mut found = Found::default();
            for item in &items[range] {
                let pairs = &self.matrix.pairs()[item.pairs_idx];
                let pair = TilePair {
                    first: item.which,
                    n_tiles: 1,
                    ..TilePair::new(pairs, item.pair_idx)
                };
                let columns = item.column..item.column + 1;
                task.multiply_pairs(&[pair], columns, &nothing, &mut found);
            }
        });
    }

    /// The tiles that hold the rows, each once a column.
    fn items(&self, rows: &[&[u32]]) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for (column, rows) in rows.iter().enumerate() {
            debug_assert!(rows.is_sorted(), "rows ascend");
            for &row in *rows {
                let place = self.matrix.place(row as usize);
                let item = Item {
                    column,
                    pairs_idx: place.pairs_idx,
                    pair_idx: place.pair_idx,
                    which: place.which,
                };
                if items.last() != Some(&item) {
                    items.push(item);
                }
            }
        }
        items
    }
}
