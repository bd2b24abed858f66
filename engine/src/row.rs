//! A row of logits: on this machine, or with the decoder that computed it.

use lmrun_kernels::{Draw, Drawn};
use lmrun_model::Decoder;

/// What tokens are drawn from.
pub(crate) enum Row<'a> {
    /// `[n_vocab]`; those that were not picked are negative infinity.
    Here(&'a mut [f32]),
    /// A row that the decoder holds.
    Held {
        decoder: &'a mut dyn Decoder,
        row_idx: usize,
        /// What the first draw gave, which was made together with those of the step's other rows; none once taken.
        first: Option<Drawn>,
    },
}

impl Row<'_> {
    /// The logits, if they are here.
    pub(crate) fn values(&self) -> Option<&[f32]> {
        match self {
            Row::Here(values) => Some(values),
            Row::Held { .. } => None,
        }
    }

    /// What the first draw gave, if it was made already and not taken yet.
    pub(crate) fn take_first(&mut self) -> Option<Drawn> {
        match self {
            Row::Here(_) => None,
            Row::Held { first, .. } => first.take(),
        }
    }

    /// Draws; the row is left as it was.
    pub(crate) fn draw(&mut self, draw: Draw<'_>) -> Drawn {
        match self {
            Row::Here(values) => draw.of(values),
            Row::Held {
                decoder, row_idx, ..
            } => {
                let row_idx = *row_idx;
                decoder.draw(&[Draw { row_idx, ..draw }])[0]
            }
        }
    }
}
