//! Whole weights of four bits: codes, and what makes whole weights of them.
//!
//! Each block's scale becomes a *factor*, a byte: so many sixteenths of the row's unit. A weight
//! is `factor * code / 16`, rounded down, a *whole* weight of 0 to 239 units, plus the block's minimum, from which the mean of what rounding
//! has taken is made good. Minimums are whole numbers, too, of 256ths of a unit, counted from the row's base, the least one: what they
//! are multiplied by, the sum of a block's inputs, is as good as one input more.
//!
//! A step, two blocks, is eight lines of codes a tile, the tiles in turn, then
//! a line of factors and a line of minimums a tile. Line `j` of a block holds what lines of
//! nibbles do elsewhere (see [`super::super`]), but with both bytes of each pair exchanged: where codes are multiplied two bytes at a time, one of
//! them is found in the upper byte of the product of the lower. A line of minimums has four bytes a row: of each block units and 256ths.

use super::{STEP_LEN, Scales, in_units, part, put_scales};
use crate::blocks::Block;
use crate::lines::LINE;
use crate::simd::LANES;
use crate::{BLOCK_LEN, BlockFormat};

/// Blocks of a step.
pub(crate) const N_BLOCKS: usize = STEP_LEN / BLOCK_LEN;
/// Lines of a tile's block.
pub(crate) const N_LINES: usize = 4;
/// Bytes of a step of a pair.
pub(crate) const STEP_BYTES: usize = MINIMUMS_AT + 2 * LINE;
/// A whole weight is its factor times its code, over two to this.
pub(crate) const SHIFT: u32 = 4;

const FACTORS_AT: usize = 2 * N_BLOCKS * N_LINES * LINE;
const MINIMUMS_AT: usize = FACTORS_AT + 2 * N_BLOCKS * LANES;
/// The greatest code and factor.
const CODE_MAX: u8 = 15;
const FACTOR_MAX: f32 = 255.0;
/// Units between the least and the greatest minimum at most: rounding adds less than one to each.
const MINIMUM_MAX: f32 = 253.0;

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

    /// Of each row and block the minimum's units and 256ths.
    #[inline(always)]
    pub(crate) fn minimums(self, which: usize) -> &'a [u8; LINE] {
        part(self.0, MINIMUMS_AT + which * LINE)
    }
}

/// The steps of a pair.
#[inline(always)]
pub(crate) fn steps(pair: &[u8]) -> &[[u8; STEP_BYTES]] {
    pair.as_chunks().0
}

const fn line_at(block: usize, line_idx: usize, which: usize) -> usize {
    (2 * (N_LINES * block + line_idx) + which) * LINE
}

const fn factors_at(block: usize, which: usize) -> usize {
    FACTORS_AT + (2 * block + which) * LANES
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

/// See [`super::WholeFormat::put`].
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
    let unit = unit_of(&blocks);
    let minimums: Vec<f32> = blocks.iter().map(|block| block.minimum(unit)).collect();
    let base = minimums.iter().copied().fold(f32::INFINITY, f32::min);
    put_scales(pair, (which, row), [unit, base]);
    let (steps, _) = pair.as_chunks_mut::<STEP_BYTES>();
    let blocks = blocks.iter().zip(minimums).enumerate();
    for (block_idx, (block, minimum)) in blocks {
        let target = &mut steps[block_idx / N_BLOCKS];
        let place = block_idx % N_BLOCKS;
        for (group, codes) in block.codes.as_chunks().0.iter().enumerate() {
            let (line_idx, shift) = group_at(group);
            // Four at a time: no code's bits reach into the next byte.
            let codes = u32::from_le_bytes(exchanged(*codes)) << shift;
            let at = line_at(place, line_idx, which) + 4 * row;
            for (target, byte) in target[at..at + 4].iter_mut().zip(codes.to_le_bytes()) {
                *target |= byte;
            }
        }
        target[factors_at(place, which) + row] = block.factor(unit);
        let at = MINIMUMS_AT + which * LINE + 4 * row + 2 * place;
        let minimum = in_units(minimum - base, unit / 256.0) as u16;
        target[at..at + 2].copy_from_slice(&minimum.to_be_bytes());
    }
}

/// The unit with which the greatest scale is the greatest factor, unless minimums need a greater one.
fn unit_of(blocks: &[Rising]) -> f32 {
    let largest = blocks.iter().map(|block| block.scale).fold(0.0, f32::max);
    let minimums = blocks.iter().map(|block| block.minimum);
    let least = minimums.clone().fold(f32::INFINITY, f32::min);
    let greatest = minimums.fold(f32::NEG_INFINITY, f32::max);
    let of_scales = largest / FACTOR_MAX * f32::from(1u16 << SHIFT);
    of_scales.max((greatest - least) / MINIMUM_MAX)
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

    /// The scale in sixteenths of a unit.
    fn factor(&self, unit: f32) -> u8 {
        in_units(self.scale * f32::from(1u16 << SHIFT), unit) as u8
    }

    /// The minimum with which whole weights have the block's mean.
    fn minimum(&self, unit: f32) -> f32 {
        let factor = self.factor(unit);
        let (mut of_codes, mut of_whole) = (0u16, 0u16);
        for &code in &self.codes {
            of_codes += u16::from(code);
            of_whole += u16::from(whole(factor, code));
        }
        let lost = self.scale * f32::from(of_codes) - unit * f32::from(of_whole);
        self.minimum + lost / BLOCK_LEN as f32
    }
}

/// See [`super::WholeFormat::read`].
pub(super) fn read(pair: &[u8], (which, row): (usize, usize), out: &mut [f32]) {
    let [unit, base] = Scales::of(pair).of_row((which, row));
    let steps = steps(pair);
    for (block_idx, out) in out.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (step, block) = (Step(&steps[block_idx / N_BLOCKS]), block_idx % N_BLOCKS);
        let factor = step.factors(block, which)[row];
        let minimum = u16::from_be_bytes(*part(step.minimums(which), 4 * row + 2 * block));
        let minimum = base + unit / 256.0 * f32::from(minimum);
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
