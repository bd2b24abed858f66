//! Weights in tiles of sixteen output rows: the file's own bits in another order.
//!
//! A *tile* is sixteen output rows and all their inputs; a lane of a vector is a row. Tiles lie in *pairs* that are
//! multiplied together: neighbours or, in a matrix of two parts of one shape and format, a gate and its up. A quantised
//! pair is a run of blocks of 32 inputs; a block is both tiles' codes, a line of one and a line of the other in turn,
//! and then, of each tile, sixteen f16 scales (twice, if each half of the block has its own) and perhaps sixteen f16
//! minimums. So a block is whole cache lines in every format, and a product reads one stream, line after line.
//!
//! A tile's block has as many 64-byte lines as a code has bits. Byte `4 * row + i` of a line belongs to input `4 * j + i` of
//! group `j`. Of codes of eight bits, line `j` holds group `j`. Of others, line `j` holds the low four bits of group `j` and,
//! above them, of group `j + 4`; the lines behind hold the bits above, of one group after another from the lowest bit up:
//! eight groups to a line if there is one such bit, four if there are two. Codes are unsigned (see `Block`), as the
//! machine's dot product wants them. Plain tiles are in `plain`. Rows beyond the last are zero.
//!
//! Scales and minimums of K formats are products of two numbers and are rounded to f16: by at most 2^-11 of themselves,
//! or 2^-25. A weight is then off by at most 1/64 of the step between two codes and 2^-11 of its minimum, where codes of
//! eight bits in its place would be off by 1/16 of a step and more.

mod plain;
pub(crate) mod whole;

use std::ops::Range;

use half::f16;
pub(crate) use plain::PlainFormat;

use crate::blocks::{Block, Coding};
use crate::lines::{Arena, LINE, Lines};
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::LANES;
use crate::{BLOCK_LEN, BlockFormat, Grain, KernelError, MatrixData, MatrixPart};
use whole::WholeFormat;

/// Bytes of sixteen f16.
const HALVES: usize = 2 * LANES;

/// Where the parts of a pair's block lie.
#[derive(Clone, Copy)]
pub(crate) struct BlockLayout {
    pub(crate) coding: Coding,
}

/// Lines that hold nibbles.
const N_NIBBLE_LINES: usize = 4;

impl BlockLayout {
    pub(crate) const fn of(format: BlockFormat) -> Self {
        Self {
            coding: format.coding(),
        }
    }

    /// Bytes of a pair's block.
    pub(crate) const fn bytes(self) -> usize {
        2 * (self.coding.n_bits * LINE + self.halves_len())
    }

    /// Bytes of a tile's scales and minimums in a block.
    const fn halves_len(self) -> usize {
        (self.coding.n_scales + self.coding.has_minimum as usize) * HALVES
    }

    /// Where line `line_idx` of the codes of tile `which` of a pair begins in a block.
    pub(crate) const fn line_at(self, line_idx: usize, which: usize) -> usize {
        (2 * line_idx + which) * LINE
    }

    /// Where scales `scale_idx` of tile `which` of a pair begin in a block.
    pub(crate) const fn scales_at(self, which: usize, scale_idx: usize) -> usize {
        2 * self.coding.n_bits * LINE + which * self.halves_len() + scale_idx * HALVES
    }

    /// Where the minimums of tile `which` of a pair begin in a block.
    pub(crate) const fn minimums_at(self, which: usize) -> usize {
        self.scales_at(which, self.coding.n_scales)
    }

    /// Where the low bits of a group lie: their line, and how far up in its bytes.
    pub(crate) const fn low_bits(self, group: usize) -> (usize, usize) {
        if self.coding.n_bits == 8 {
            (group, 0)
        } else {
            (group % N_NIBBLE_LINES, group / N_NIBBLE_LINES * 4)
        }
    }

    /// The same of the bits above four, of codes that are wider.
    pub(crate) const fn high_bits(self, group: usize) -> (usize, usize) {
        let at = group * (self.coding.n_bits - 4);
        (N_NIBBLE_LINES + at / 8, at % 8)
    }

    /// Whether codes are nibbles and some bits above.
    pub(crate) const fn has_high_bits(self) -> bool {
        4 < self.coding.n_bits && self.coding.n_bits < 8
    }

    fn put(self, target: &mut [u8], (which, row): (usize, usize), block: &Block) {
        for (group, codes) in block.codes.as_chunks().0.iter().enumerate() {
            // Four at a time: no code's bits reach into the next byte.
            let codes = u32::from_le_bytes(*codes);
            let mut put = |(line_idx, shift): (usize, usize), bits: u32| {
                let at = self.line_at(line_idx, which) + 4 * row;
                let bytes = (bits << shift).to_le_bytes();
                for (target, byte) in target[at..at + 4].iter_mut().zip(bytes) {
                    *target |= byte;
                }
            };
            if self.coding.n_bits == 8 {
                put(self.low_bits(group), codes);
                continue;
            }
            put(self.low_bits(group), codes & 0x0f0f_0f0f);
            if self.has_high_bits() {
                put(self.high_bits(group), codes >> 4 & 0x0f0f_0f0f);
            }
        }
        let mut put_half = |at: usize, value: f32| {
            target[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        };
        for (i, &scale) in block.scales[..self.coding.n_scales].iter().enumerate() {
            put_half(self.scales_at(which, i) + 2 * row, scale);
        }
        if self.coding.has_minimum {
            put_half(self.minimums_at(which) + 2 * row, block.minimum);
        }
    }

    fn read(self, source: &[u8], (which, row): (usize, usize), out: &mut [f32]) {
        let half_at = |at: usize| f16::from_le_bytes([source[at], source[at + 1]]).to_f32();
        let scale = |scale_idx| half_at(self.scales_at(which, scale_idx) + 2 * row);
        let scales = [scale(0), scale(self.coding.n_scales - 1)];
        let minimum = if self.coding.has_minimum {
            half_at(self.minimums_at(which) + 2 * row)
        } else {
            0.0
        };
        for (i, out) in out.iter_mut().enumerate() {
            let (group, lane_byte) = (i / 4, 4 * row + i % 4);
            let get = |(line_idx, shift): (usize, usize)| {
                source[self.line_at(line_idx, which) + lane_byte] >> shift
            };
            let low = get(self.low_bits(group));
            let code = match self.coding.n_bits {
                8 => low,
                4 => low & 15,
                n_bits => low & 15 | (get(self.high_bits(group)) << 4) & ((1 << n_bits) - 1),
            };
            let code = i32::from(code) - self.coding.offset;
            *out = scales[i / (BLOCK_LEN / 2)] * code as f32 + minimum;
        }
    }
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain(PlainFormat),
    Blocks(BlockFormat),
    /// Blocks of four bits, or a head's of eight, as `whole` has them.
    Whole(WholeFormat),
}

impl Format {
    /// How data of rows of `n_cols` is stored, on a machine with a unit for squares or without one.
    fn of(data: MatrixData<'_>, n_cols: usize, grain: Grain, has_unit: bool) -> Self {
        match data {
            MatrixData::F32(_) => Format::Plain(PlainFormat::F32),
            MatrixData::F16(_) => Format::Plain(PlainFormat::F16),
            MatrixData::Bf16(_) => Format::Plain(PlainFormat::Bf16),
            MatrixData::Blocks(format, _) => match WholeFormat::of(format, n_cols, grain) {
                Some(whole) if has_unit => Format::Whole(whole),
                _ => Format::Blocks(format),
            },
        }
    }

    /// Bytes of a pair of tiles of `n_cols` inputs.
    #[inline(always)]
    fn pair_bytes(self, n_cols: usize) -> usize {
        match self {
            Format::Plain(format) => format.pair_bytes(n_cols),
            Format::Blocks(format) => n_cols / BLOCK_LEN * BlockLayout::of(format).bytes(),
            Format::Whole(format) => format.pair_bytes(n_cols),
        }
    }

    /// Whether each half of 32 weights has a scale of its own.
    fn has_two_scales(self) -> bool {
        matches!(self, Format::Blocks(format) if format.coding().n_scales == 2)
    }
}

/// Writes a row into a pair, as a row of one of its tiles.
fn put(pair: &mut [u8], place: (usize, usize), format: Format, row: MatrixData<'_>) {
    match row {
        MatrixData::F32(values) => {
            PlainFormat::F32.put(pair, place, values.iter().map(|x| x.to_le_bytes()));
        }
        MatrixData::F16(values) => PlainFormat::F16.put(pair, place, values.iter().copied()),
        MatrixData::Bf16(values) => {
            let numbers = values.iter().map(|x| plain::bf16_number(*x));
            PlainFormat::Bf16.put(pair, place, numbers);
        }
        MatrixData::Blocks(from, bytes) if let Format::Whole(format) = format => {
            format.put(pair, place, from, bytes);
        }
        MatrixData::Blocks(format, bytes) => {
            let layout = BlockLayout::of(format);
            let mut targets = pair.chunks_exact_mut(layout.bytes());
            format.unpack(bytes, |block| {
                let target = targets.next().expect("a pair has room for its rows");
                layout.put(target, place, block);
            });
        }
    }
}

/// The first or the second tiles of some pairs: tile `i` is the rows from `first + i * step` on.
#[derive(Debug, Clone, Copy)]
struct Strand {
    first: usize,
    step: usize,
    end: usize,
}

impl Strand {
    /// The rows of a tile; none if the pair has no such tile.
    #[inline(always)]
    fn rows(self, pair_idx: usize) -> Range<usize> {
        let first = self.first + pair_idx * self.step;
        first..self.end.min(first + LANES).max(first)
    }

    /// The pair that holds a row, and the row's place in its tile.
    fn find(self, row_idx: usize) -> Option<(usize, usize)> {
        let offset = row_idx.checked_sub(self.first)?;
        let is_here = row_idx < self.end && offset % self.step < LANES;
        is_here.then_some((offset / self.step, offset % self.step))
    }
}

/// Pairs of tiles of one format.
#[derive(Debug)]
pub(crate) struct Pairs {
    n_pairs: usize,
    strands: [Strand; 2],
    format: Format,
    /// `[n_pairs]` pairs of tiles.
    tiles: Lines,
}

/// One output row: among which pairs its tile is, which pair, which tile of it, which lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pairs_idx: usize,
    pub(crate) pair_idx: usize,
    pub(crate) which: usize,
    lane: usize,
}

/// The rows of a pair, and where each is: which tile, which lane.
fn lanes_of(
    strands: [Strand; 2],
    pair_idx: usize,
) -> impl Iterator<Item = ((usize, usize), usize)> {
    (0..2).zip(strands).flat_map(move |(which, strand)| {
        let rows = strand.rows(pair_idx).enumerate();
        rows.map(move |(lane, row_idx)| ((which, lane), row_idx))
    })
}

impl Pairs {
    /// Where a row is: its pair, which tile of it, which lane.
    fn find(&self, row_idx: usize) -> Option<(usize, usize, usize)> {
        let mut strands = (0..2).zip(self.strands);
        strands.find_map(|(which, strand)| {
            let (pair_idx, lane) = strand.find(row_idx)?;
            Some((pair_idx, which, lane))
        })
    }

    /// Packs the rows of parts, which are as many each, of which the first strand has the first. Who fills a pair is the first to
    /// touch it, so that all threads clear the memory, which takes longer than the packing.
    fn pack(&mut self, pool: &mut Pool, n_cols: usize, parts: &[MatrixPart<'_>]) {
        let (n_pairs, strands, format) = (self.n_pairs, self.strands, self.format);
        let pair_len = format.pair_bytes(n_cols);
        let tiles = SharedSlice::new(self.tiles.bytes_mut());
        pool.run_split(n_pairs, 2, |pairs| {
            for pair_idx in pairs {
                let start = pair_idx * pair_len;
                // SAFETY: pairs do not overlap, and each is in one thread's range alone.
                let pair = unsafe { tiles.part_mut(start..start + pair_len) };
                for (place, row_idx) in lanes_of(strands, pair_idx) {
                    let row_idx = row_idx - strands[0].first;
                    let part = &parts[row_idx / parts[0].n_rows];
                    let row_idx = row_idx % part.n_rows;
                    let row = part.data.rows(row_idx..row_idx + 1, n_cols);
                    put(pair, place, format, row);
                }
            }
        });
    }

    pub(crate) fn n_pairs(&self) -> usize {
        self.n_pairs
    }

    /// The output rows of both tiles of a pair; the second may have none.
    #[inline(always)]
    pub(crate) fn rows(&self, pair_idx: usize) -> [Range<usize>; 2] {
        self.strands.map(|strand| strand.rows(pair_idx))
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// A pair of a matrix of `n_cols` inputs: `n_blocks` blocks or, of plain weights, steps.
    #[inline(always)]
    pub(crate) fn weights(&self, pair_idx: usize, n_cols: usize) -> &[u8] {
        let n_bytes = self.format.pair_bytes(n_cols);
        &self.tiles.bytes()[pair_idx * n_bytes..][..n_bytes]
    }
}

/// A weight matrix of a [`crate::Cpu`].
#[derive(Debug)]
pub struct Matrix {
    n_cols: usize,
    n_rows: usize,
    grain: Grain,
    pairs: Vec<Pairs>,
}

impl Matrix {
    /// A matrix in the arena, packed by the pool's threads, for a machine with a unit for squares or without one.
    pub(crate) fn new(
        memory: (&mut Arena, &mut Pool),
        has_unit: bool,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        grain: Grain,
    ) -> Result<Self, KernelError> {
        let (arena, pool) = memory;
        for part in parts {
            part.check(n_cols)?;
        }
        let format_of = |part: &MatrixPart<'_>| Format::of(part.data, n_cols, grain, has_unit);
        let has_two = |part: &MatrixPart<'_>| format_of(part).has_two_scales();
        let mut matrix = Self {
            n_cols,
            n_rows: parts.iter().map(|part| part.n_rows).sum(),
            // A half of 32 weights that has a scale of its own needs one of activations.
            grain: if parts.iter().any(has_two) {
                Grain::Sixteen
            } else {
                grain
            },
            pairs: Vec::with_capacity(parts.len()),
        };
        if let [first, second] = parts
            && format_of(first) == format_of(second)
            && first.n_rows == second.n_rows
        {
            let n_rows = first.n_rows;
            let strand = |first| Strand {
                first,
                step: LANES,
                end: first + n_rows,
            };
            let strands = [strand(0), strand(n_rows)];
            let format = format_of(first);
            matrix.add(
                (arena, pool),
                format,
                n_rows.div_ceil(LANES),
                strands,
                parts,
            )?;
            return Ok(matrix);
        }
        let mut first = 0;
        for part in parts {
            let end = first + part.n_rows;
            let strand = |first| Strand {
                first,
                step: 2 * LANES,
                end,
            };
            let strands = [strand(first), strand(first + LANES)];
            let n_pairs = part.n_rows.div_ceil(2 * LANES);
            matrix.add(
                (&mut *arena, &mut *pool),
                format_of(part),
                n_pairs,
                strands,
                std::slice::from_ref(part),
            )?;
            first = end;
        }
        Ok(matrix)
    }

    /// Adds pairs that hold the rows of `parts`, which are of one format.
    fn add(
        &mut self,
        (arena, pool): (&mut Arena, &mut Pool),
        format: Format,
        n_pairs: usize,
        strands: [Strand; 2],
        parts: &[MatrixPart<'_>],
    ) -> Result<(), KernelError> {
        let mut pairs = Pairs {
            n_pairs,
            strands,
            format,
            tiles: arena.zeroed(n_pairs * format.pair_bytes(self.n_cols))?,
        };
        pairs.pack(pool, self.n_cols, parts);
        self.pairs.push(pairs);
        Ok(())
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// How activations are rounded for it.
    pub(crate) fn grain(&self) -> Grain {
        self.grain
    }

    pub(crate) fn pairs(&self) -> &[Pairs] {
        &self.pairs
    }

    /// Whether the pairs are a gate and its up each.
    pub(crate) fn is_gated(&self) -> bool {
        matches!(self.pairs.as_slice(), [pairs] if pairs.strands[0].step == LANES)
    }

    /// Whether any part is multiplied by blocks.
    pub(crate) fn has_blocks(&self) -> bool {
        let is_quantised = |pairs: &Pairs| matches!(pairs.format, Format::Blocks(_));
        self.pairs.iter().any(is_quantised)
    }

    /// Whether any part is whole.
    pub(crate) fn has_whole(&self) -> bool {
        let is_whole = |pairs: &Pairs| matches!(pairs.format, Format::Whole(_));
        self.pairs.iter().any(is_whole)
    }

    /// Whether any part is bf16.
    pub(crate) fn has_bf16(&self) -> bool {
        let is_bf16 = |pairs: &Pairs| pairs.format == Format::Plain(PlainFormat::Bf16);
        self.pairs.iter().any(is_bf16)
    }

    /// Where an output row is.
    pub(crate) fn place(&self, row_idx: usize) -> Place {
        let mut pairs = self.pairs.iter().enumerate();
        let found = pairs.find_map(|(pairs_idx, pairs)| {
            let (pair_idx, which, lane) = pairs.find(row_idx)?;
            Some(Place {
                pairs_idx,
                pair_idx,
                which,
                lane,
            })
        });
        found.expect("the row is within the matrix")
    }

    /// The plain values of one output row.
    pub(crate) fn read_row(&self, row_idx: usize, out: &mut [f32]) {
        let place = self.place(row_idx);
        let pairs = &self.pairs[place.pairs_idx];
        let pair = pairs.weights(place.pair_idx, self.n_cols);
        let place = (place.which, place.lane);
        match pairs.format {
            Format::Plain(format) => format.read(pair, place, out),
            Format::Whole(format) => format.read(pair, place, out),
            Format::Blocks(format) => {
                let layout = BlockLayout::of(format);
                let blocks = pair.chunks_exact(layout.bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(BLOCK_LEN)) {
                    layout.read(block, place, out);
                }
            }
        }
    }
}
