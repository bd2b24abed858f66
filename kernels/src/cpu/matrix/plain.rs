//! Plain weights in tiles: in two or four bytes each, as they are in a file.
//!
//! A pair of tiles is a run of *steps*; of each step come the numbers of the first tile's sixteen rows and then those of the
//! second's. A step is one input, or two where a product takes two at a time: then each row has both, one after the other.

use super::super::round;
use crate::simd::LANES;

/// How plain weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainFormat {
    /// A step is an input.
    F32,
    /// A step is an input.
    F16,
    /// A step is two inputs. Numbers below 2^-56 are zero (see `round`).
    Bf16,
}

impl PlainFormat {
    /// Bytes of a number, and how many a row has in a step.
    const fn step(self) -> (usize, usize) {
        match self {
            PlainFormat::F32 => (4, 1),
            PlainFormat::F16 => (2, 1),
            PlainFormat::Bf16 => (2, 2),
        }
    }

    /// Bytes of a tile's step.
    pub(crate) const fn tile_bytes(self) -> usize {
        let (n_bytes, n_inputs) = self.step();
        n_bytes * n_inputs * LANES
    }

    /// Bytes of a pair of tiles of `n_cols` inputs.
    pub(crate) const fn pair_bytes(self, n_cols: usize) -> usize {
        2 * self.tile_bytes() * n_cols.div_ceil(self.step().1)
    }

    /// Where the number of an input lies in a pair, of a row of one of its tiles.
    fn at(self, input: usize, (which, row): (usize, usize)) -> usize {
        let (n_bytes, n_inputs) = self.step();
        let (step, place) = (input / n_inputs, input % n_inputs);
        (2 * step + which) * self.tile_bytes() + (row * n_inputs + place) * n_bytes
    }

    /// Writes a row of numbers, of `N` bytes each, into a pair.
    pub(super) fn put<const N: usize>(
        self,
        pair: &mut [u8],
        place: (usize, usize),
        numbers: impl Iterator<Item = [u8; N]>,
    ) {
        for (input, number) in numbers.enumerate() {
            let at = self.at(input, place);
            pair[at..at + N].copy_from_slice(&number);
        }
    }

    /// Reads a row of a pair.
    pub(super) fn read(self, pair: &[u8], place: (usize, usize), out: &mut [f32]) {
        for (input, out) in out.iter_mut().enumerate() {
            let bytes = &pair[self.at(input, place)..];
            *out = match self {
                PlainFormat::F32 => f32::from_le_bytes(first(bytes)),
                PlainFormat::F16 => half::f16::from_le_bytes(first(bytes)).to_f32(),
                PlainFormat::Bf16 => half::bf16::from_le_bytes(first(bytes)).to_f32(),
            };
        }
    }
}

/// The number that bytes begin with.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a pair has room for its rows")
}

/// A bf16 as products take it.
pub(super) fn bf16_number(bytes: [u8; 2]) -> [u8; 2] {
    round::without_tiny(u16::from_le_bytes(bytes)).to_le_bytes()
}
