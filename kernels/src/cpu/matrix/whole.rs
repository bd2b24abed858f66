//! Weights as bytes in units of their row, for machines that multiply squares of bytes (see [`crate::squares`]).
//!
//! A scale for every 32 weights ends a sum of whole numbers after 32 products, and a unit that multiplies squares then spends
//! most of its time on storing sums. So weights become *whole*: a byte each, in units of their row, over the row's *base*. All products of
//! a row are then one sum of whole numbers, in any order. Measured, this diverges less from exact weights and activations than blocks of
//! rounded activations do (docs/results.md).
//!
//! Weights of four bits are codes until they are multiplied ([`nibbles`]): reading
//! them is what takes time where columns are few. A head's of eight bits are bytes from the start ([`bytes`]).
//!
//! A pair of tiles is a run of *steps* of 64 inputs, and behind them each tile's units and bases (f32).

pub(crate) mod bytes;
pub(crate) mod nibbles;

use crate::lines::LINE;
use crate::{BlockFormat, Grain};

/// Inputs of a step.
pub(crate) const STEP_LEN: usize = 64;
/// Inputs of a row at most, so that sums of whole numbers, of two products of minimums a block as well, are numbers of 32 bits.
const N_COLS_MAX: usize = 60 << 10;
/// Bytes behind a pair's steps.
const SCALES_BYTES: usize = 4 * LINE;

/// How whole weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WholeFormat {
    Nibbles,
    Bytes,
}

impl WholeFormat {
    /// How rows of this format and length are stored, if they can be whole.
    pub(crate) fn of(format: BlockFormat, n_cols: usize, grain: Grain) -> Option<Self> {
        if !n_cols.is_multiple_of(STEP_LEN) || n_cols > N_COLS_MAX {
            return None;
        }
        match format.coding().n_bits {
            4 => Some(Self::Nibbles),
            8 if grain == Grain::Whole => Some(Self::Bytes),
            _ => None,
        }
    }

    /// Bytes of a pair of tiles.
    pub(crate) const fn pair_bytes(self, n_cols: usize) -> usize {
        let step_bytes = match self {
            Self::Nibbles => nibbles::STEP_BYTES,
            Self::Bytes => bytes::STEP_BYTES,
        };
        n_cols / STEP_LEN * step_bytes + SCALES_BYTES
    }

    /// Writes a row of blocks into a pair, as a row of one of its tiles.
    pub(super) fn put(
        self,
        pair: &mut [u8],
        place: (usize, usize),
        format: BlockFormat,
        blocks: &[u8],
    ) {
        match self {
            Self::Nibbles => nibbles::put(pair, place, format, blocks),
            Self::Bytes => bytes::put(pair, place, format, blocks),
        }
    }

    /// Reads a row of a pair.
    pub(super) fn read(self, pair: &[u8], place: (usize, usize), out: &mut [f32]) {
        match self {
            Self::Nibbles => nibbles::read(pair, place, out),
            Self::Bytes => bytes::read(pair, place, out),
        }
    }
}

/// What all weights of a row share: of each tile sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct Scales<'a> {
    pub(crate) units: [&'a [u8; LINE]; 2],
    pub(crate) bases: [&'a [u8; LINE]; 2],
}

impl<'a> Scales<'a> {
    /// Those of a pair.
    #[inline(always)]
    pub(crate) fn of(pair: &'a [u8]) -> Self {
        let lines = &pair[pair.len() - SCALES_BYTES..];
        Self {
            units: [part(lines, 0), part(lines, LINE)],
            bases: [part(lines, 2 * LINE), part(lines, 3 * LINE)],
        }
    }

    /// The unit and the base of a row.
    fn of_row(self, (which, row): (usize, usize)) -> [f32; 2] {
        [self.units, self.bases].map(|lines| f32::from_le_bytes(*part(lines[which], 4 * row)))
    }
}

/// Writes a row's unit and base.
fn put_scales(pair: &mut [u8], (which, row): (usize, usize), scales: [f32; 2]) {
    let lines = pair.len() - SCALES_BYTES;
    for (idx, scale) in scales.into_iter().enumerate() {
        let at = lines + (2 * idx + which) * LINE + 4 * row;
        pair[at..at + 4].copy_from_slice(&scale.to_le_bytes());
    }
}

#[inline(always)]
fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("a pair holds its parts")
}

/// How many units a number is, rounded to the nearest; none if there is no unit.
fn in_units(number: f32, unit: f32) -> f32 {
    if unit > 0.0 { number / unit + 0.5 } else { 0.0 }
}
