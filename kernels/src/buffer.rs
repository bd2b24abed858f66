//! Activations of the CPU devices: rows of f32.

use std::collections::BTreeSet;

use crate::aligned::Aligned;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::{Draw, Drawn};

/// Values that one thread copies at least: a row of logits of a large vocabulary.
const N_WORTHWHILE: usize = 1 << 16;

/// `[n_rows, width]` f32, row after row.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    width: usize,
    values: Aligned<f32>,
}

impl Buffer {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            values: Aligned::default(),
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Sets the number of rows; what they hold is unspecified.
    pub(crate) fn resize(&mut self, n_rows: usize) -> &mut [f32] {
        self.values.resize(n_rows * self.width);
        &mut self.values
    }

    pub(crate) fn row(&self, row_idx: usize) -> &[f32] {
        &self.values[row_idx * self.width..(row_idx + 1) * self.width]
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.width)
    }

    /// The elements `columns[i]` of row `i`, one row after another.
    pub(crate) fn pick(&self, columns: &[&[u32]]) -> Vec<f32> {
        let rows = self.rows().zip(columns);
        rows.flat_map(|(row, columns)| columns.iter().map(|&column| row[column as usize]))
            .collect()
    }

    /// The draws' choices, each of a row of its own, by all threads.
    pub(crate) fn sample(&mut self, draws: &[Draw<'_>], pool: &mut Pool) -> Vec<Drawn> {
        let row_idxs: BTreeSet<usize> = draws.iter().map(|draw| draw.row_idx).collect();
        assert_eq!(row_idxs.len(), draws.len(), "a row is drawn from twice");
        let nothing = Drawn {
            token: None,
            logprob: f32::NAN,
        };
        let mut drawn = vec![nothing; draws.len()];
        let (width, rows) = (self.width, SharedSlice::new(&mut self.values));
        let answers = SharedSlice::new(&mut drawn);
        pool.run_own(draws.len(), 2, |_, own| {
            for draw_idx in own.into_iter().flatten() {
                // SAFETY: draws are split among the threads, so nobody else has this one.
                let answer = unsafe { &mut answers.part_mut(draw_idx..draw_idx + 1)[0] };
                let draw = &draws[draw_idx];
                let start = draw.row_idx * width;
                // SAFETY: no other draw is of this row.
                *answer = draw.of(unsafe { rows.part_mut(start..start + width) });
            }
        });
        drawn
    }

    /// All values, copied by all threads if they are many.
    pub(crate) fn copied(&self, pool: &mut Pool) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.values.len());
        let spare = SharedSlice::new(&mut values.spare_capacity_mut()[..self.values.len()]);
        pool.run_split(self.values.len(), N_WORTHWHILE, |range| {
            // SAFETY: ranges are split among the threads, so nobody else has this one.
            let target = unsafe { spare.part_mut(range.clone()) };
            target.write_copy_of_slice(&self.values[range]);
        });
        // SAFETY: the ranges, each of which has been written, cover them all.
        unsafe { values.set_len(self.values.len()) };
        values
    }

    /// Replaces everything by whole rows of `values`.
    pub(crate) fn assign(&mut self, values: &[f32]) {
        assert!(
            values.len().is_multiple_of(self.width),
            "{} values",
            values.len()
        );
        self.values.resize(values.len());
        self.values.copy_from_slice(values);
    }

    /// `self[i] = source[rows[i]]`.
    pub(crate) fn select(&mut self, source: &Buffer, rows: &[usize]) {
        assert_eq!(self.width, source.width, "widths");
        self.values.resize(rows.len() * self.width);
        for (row, &row_idx) in self.rows_mut().zip(rows) {
            row.copy_from_slice(source.row(row_idx));
        }
    }
}
