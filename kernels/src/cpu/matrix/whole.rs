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

use crate::blocks::Block;
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
    /// Lines of one of `n` parts of the step, which are all of it.
    #[inline(always)]
    pub(crate) fn part(self, idx: usize, n: usize) -> &'a [u8] {
        let line_at = |idx| STEP_BYTES / LINE * idx / n * LINE;
        &self.0[line_at(idx)..line_at(idx + 1)]
    }

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

/// Where the codes of a group of four inputs of a block lie: the line, and how far up.
const fn group_at(group: usize) -> (usize, u32) {
    (group % N_LINES, (group / N_LINES * 4) as u32)
}

/// A row's bytes in a line, both of each pair exchanged.
const fn exchanged([a, b, c, d]: [u8; 4]) -> [u8; 4] {
    [b, a, d, c]
}

/// A weight in units of its row.
pub(crate) const fn whole(factor: u8, code: u8) -> u8 {
    ((factor as u16 * code as u16) >> SHIFT) as u8
}

/// Writes a row of blocks into a pair, as a row of one of its tiles.
pub(super) fn put(
    pair: &mut [u8],
    (which, row): (usize, usize),
    format: BlockFormat,
    bytes: &[u8],
) {
    let mut blocks = Vec::with_capacity(bytes.len() / format.block_bytes());
    format.unpack(bytes, |block| {
        blocks.push(Rising::of(block, format.coding().offset));
    });
    let largest = blocks.iter().map(|block| block.scale).fold(0.0, f32::max);
    let unit = largest / FACTOR_MAX * f32::from(1u16 << SHIFT);
    let (steps, units) = pair.as_chunks_mut::<STEP_BYTES>();
    units[4 * (LANES * which + row)..][..4].copy_from_slice(&unit.to_le_bytes());
    for (blocks, target) in blocks.chunks(N_BLOCKS).zip(steps) {
        for (place, block) in blocks.iter().enumerate() {
            let factor = block.factor(largest);
            let minimum = f16::from_f32(block.minimum(factor, unit));
            for (group, codes) in block.codes.as_chunks().0.iter().enumerate() {
                let (line_idx, shift) = group_at(group);
                // Four at a time: no code's bits reach into the next byte.
                let codes = u32::from_le_bytes(exchanged(*codes)) << shift;
                let at = line_at(place, line_idx, which) + 4 * row;
                for (target, byte) in target[at..at + 4].iter_mut().zip(codes.to_le_bytes()) {
                    *target |= byte;
                }
            }
            target[factors_at(place, which) + row] = factor;
            let at = minimums_at(place, which) + 2 * row;
            target[at..at + 2].copy_from_slice(&minimum.to_le_bytes());
        }
    }
}

/// A block whose scale is not negative: a weight is `scale * code + minimum`.
struct Rising {
    scale: f32,
    minimum: f32,
    codes: [u8; BLOCK_LEN],
}

impl Rising {
    fn of(block: &Block, offset: i32) -> Self {
        let scale = block.scales[0];
        let minimum = block.minimum - offset as f32 * scale;
        if scale < 0.0 {
            return Self {
                scale: -scale,
                minimum: minimum + f32::from(CODE_MAX) * scale,
                codes: block.codes.map(|code| CODE_MAX - code),
            };
        }
        Self {
            scale,
            minimum,
            codes: block.codes,
        }
    }

    /// The scale's share of the greatest of the row.
    fn factor(&self, largest: f32) -> u8 {
        if largest > 0.0 {
            (self.scale / largest * FACTOR_MAX + 0.5) as u8
        } else {
            0
        }
    }

    /// The minimum with which whole weights have the block's mean.
    fn minimum(&self, factor: u8, unit: f32) -> f32 {
        let (mut of_codes, mut of_whole) = (0u16, 0u16);
        for &code in &self.codes {
            of_codes += u16::from(code);
            of_whole += u16::from(whole(factor, code));
        }
        let lost = self.scale * f32::from(of_codes) - unit * f32::from(of_whole);
        self.minimum + lost / BLOCK_LEN as f32
    }
}

/// Reads a row of a pair.
pub(super) fn read(pair: &[u8], (which, row): (usize, usize), out: &mut [f32]) {
    let (steps, units) = parts(pair);
    let unit = f32::from_le_bytes(*part(units[which], 4 * row));
    for (block_idx, out) in out.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (step, block) = (Step(&steps[block_idx / N_BLOCKS]), block_idx % N_BLOCKS);
        let factor = step.factors(block, which)[row];
        let minimum = f16::from_le_bytes(*part(step.minimums(block, which), 2 * row)).to_f32();
        for (group, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (line_idx, shift) = group_at(group);
            let codes = exchanged(*part(step.line(block, line_idx, which), 4 * row));
            for (out, codes) in out.iter_mut().zip(codes) {
                let whole = whole(factor, codes >> shift & CODE_MAX);
                *out = unit * f32::from(whole) + minimum;
            }
        }
    }
}
