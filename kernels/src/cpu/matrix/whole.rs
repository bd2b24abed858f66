//! Weights of four bits as bytes in units of their row, for machines that multiply squares of bytes (see [`crate::squares`]).
//!
//! A scale for every 32 weights ends a sum of whole numbers after 32 products, and a unit that multiplies squares then spends
//! most of its time on storing sums. So each block's scale becomes a *factor*, a byte: its share of the greatest scale of the row, in
//! 255ths. A weight is `factor * code / 16`, rounded down: a *whole* weight of 0 to 239 times the row's unit, plus the
//! block's minimum, from which the mean of what rounding has taken is made good. All products of a row are then one sum
//! of whole numbers, in any order. Measured, this diverges less from exact weights and activations than blocks of rounded activations do
//! (docs/results.md).
//!
//! A pair of tiles is a run of *steps* of 64 inputs, two blocks. A step is eight lines of codes a tile, the tiles in turn, then
//! a line of factors and two of minimums (f16), and behind all steps each tile's units (f32). Line `j` of a block holds what lines of nibbles do
//! elsewhere (see [`super`]), but with both bytes of each pair exchanged: where codes are multiplied two bytes at a time, one of
//! them is found in the upper byte of the product of the lower.

use half::f16;

use crate::lines::LINE;
use crate::simd::LANES;
use crate::{BLOCK_LEN, BlockFormat};

/// Inputs of a step.
pub(crate) const STEP_LEN: usize = 2 * BLOCK_LEN;
/// Blocks of a step.
pub(crate) const N_BLOCKS: usize = STEP_LEN / BLOCK_LEN;
/// Lines of a tile's block.
pub(crate) const N_LINES: usize = 4;
/// Bytes of a step of a pair.
pub(crate) const STEP_BYTES: usize = MINIMUMS_AT + 2 * N_BLOCKS * 2 * LANES;
/// A whole weight is its factor times its code, over two to this.
pub(crate) const SHIFT: u32 = 4;
/// Inputs of a row at most, so that sums of whole numbers are numbers of 32 bits.
const N_COLS_MAX: usize = 1 << 16;

const FACTORS_AT: usize = 2 * N_BLOCKS * N_LINES * LINE;
const MINIMUMS_AT: usize = FACTORS_AT + 2 * N_BLOCKS * LANES;
/// The greatest code and factor.
const CODE_MAX: u8 = 15;
const FACTOR_MAX: f32 = 255.0;

/// Whether rows of this format and length can be whole.
pub(crate) fn is_possible(format: BlockFormat, n_cols: usize) -> bool {
    format.coding().n_bits == 4 && n_cols.is_multiple_of(STEP_LEN) && n_cols <= N_COLS_MAX
}

/// Bytes of a pair of tiles.
pub(crate) const fn pair_bytes(n_cols: usize) -> usize {
    n_cols / STEP_LEN * STEP_BYTES + 2 * 4 * LANES
}

/// One step of a pair.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a>(pub(crate) &'a [u8; STEP_BYTES]);

impl<'a> Step<'a> {
    /// The codes of groups `line_idx` and `line_idx + 4` of a block.
    #[inline(always)]
    pub(crate) fn line(self, block: usize, line_idx: usize, which: usize) -> &'a [u8; LINE] {
        part(self.0, line_at(block, line_idx, which))
    }

    #[inline(always)]
    pub(crate) fn factors(self, block: usize, which: usize) -> &'a [u8; LANES] {
        part(self.0, factors_at(block, which))
    }

    /// Sixteen f16.
    #[inline(always)]
    pub(crate) fn minimums(self, block: usize, which: usize) -> &'a [u8; 2 * LANES] {
        part(self.0, minimums_at(block, which))
    }
}

/// The steps of a pair, and each tile's units: sixteen f32.
#[inline(always)]
pub(crate) fn parts(pair: &[u8]) -> (&[[u8; STEP_BYTES]], [&[u8; 4 * LANES]; 2]) {
    let (steps, units) = pair.as_chunks();
    (steps, [part(units, 0), part(units, 4 * LANES)])
}

#[inline(always)]
fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("a step holds its parts")
}

const fn line_at(block: usize, line_idx: usize, which: usize) -> usize {
    (2 * (N_LINES * block + line_idx) + which) * LINE
}

const fn factors_at(block: usize, which: usize) -> usize {
    FACTORS_AT + (2 * block + which) * LANES
}

const fn minimums_at(block: usize, which: usize) -> usize {
    MINIMUMS_AT + (2 * block + which) * 2 * LANES
}

/// Where the code of an input of a block lies: the line, the byte in a row's four of it, and how far up.
const fn code_at(input: usize) -> (usize, usize, u32) {
    let (group, byte) = (input / 4, input % 4 ^ 1);
    (group % N_LINES, byte, (group / N_LINES * 4) as u32)
}

/// A weight in units of its row.
pub(crate) const fn whole(factor: u8, code: u8) -> u8 {
    (factor as u16 * code as u16 >> SHIFT) as u8
}

/// Writes a row of blocks into a pair, as a row of one of its tiles.
pub(super) fn put(
    pair: &mut [u8],
    (which, row): (usize, usize),
    format: BlockFormat,
    blocks: &[u8],
) {
    let offset = format.coding().offset as f32;
    let mut largest = 0.0f32;
    format.unpack(blocks, |block| largest = largest.max(block.scales[0].abs()));
    let unit = largest / FACTOR_MAX * f32::from(1u16 << SHIFT);
    let (steps, units) = pair.as_chunks_mut::<STEP_BYTES>();
    units[4 * (LANES * which + row)..][..4].copy_from_slice(&unit.to_le_bytes());
    let mut blocks_done = 0;
    format.unpack(blocks, |block| {
        let (step, place) = (blocks_done / N_BLOCKS, blocks_done % N_BLOCKS);
        blocks_done += 1;
        let scale = block.scales[0];
        let (mut codes, mut minimum) = (block.codes, block.minimum - offset * scale);
        if scale < 0.0 {
            codes = codes.map(|code| CODE_MAX - code);
            minimum += f32::from(CODE_MAX) * scale;
        }
        let factor = if largest > 0.0 {
            (scale.abs() / largest * FACTOR_MAX).round() as u8
        } else {
            0
        };
        let sum = |each: &dyn Fn(u8) -> u8| -> f32 {
            f32::from(codes.iter().map(|&code| u16::from(each(code))).sum::<u16>())
        };
        let lost = scale.abs() * sum(&|code| code) - unit * sum(&|code| whole(factor, code));
        minimum += lost / BLOCK_LEN as f32;
        let target = &mut steps[step];
        for (input, code) in codes.into_iter().enumerate() {
            let (line_idx, byte, shift) = code_at(input);
            target[line_at(place, line_idx, which) + 4 * row + byte] |= code << shift;
        }
        target[factors_at(place, which) + row] = factor;
        let at = minimums_at(place, which) + 2 * row;
        target[at..at + 2].copy_from_slice(&f16::from_f32(minimum).to_le_bytes());
    });
}

/// Reads a row of a pair.
pub(super) fn read(pair: &[u8], (which, row): (usize, usize), out: &mut [f32]) {
    let (steps, units) = parts(pair);
    let unit = f32::from_le_bytes(*part(units[which], 4 * row));
    for (block_idx, out) in out.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (step, block) = (Step(&steps[block_idx / N_BLOCKS]), block_idx % N_BLOCKS);
        let factor = step.factors(block, which)[row];
        let minimum = f16::from_le_bytes(*part(step.minimums(block, which), 2 * row)).to_f32();
        for (input, out) in out.iter_mut().enumerate() {
            let (line_idx, byte, shift) = code_at(input);
            let code = step.line(block, line_idx, which)[4 * row + byte] >> shift & CODE_MAX;
            *out = unit * f32::from(whole(factor, code)) + minimum;
        }
    }
}
