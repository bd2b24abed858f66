//! Weights in tiles of sixteen output rows: the file's own bits in another order.
//!
//! A *tile* is sixteen output rows and all their inputs; a lane of a vector is a row. Tiles lie in *pairs* that are
//! multiplied together: neighbours or, in a matrix of two parts of one shape and format, a gate and its up. A quantised
//! pair is a run of blocks of 32 inputs; a block is both tiles' codes, a line of one and a line of the other in turn,
//! and then, of each tile, sixteen f16 scales and, for Q4_1, sixteen f16 minimums. So a block is whole cache lines in
//! every format, and a product reads one stream, line after line.
//!
//! 4-bit codes of a tile fill four 64-byte lines: byte `4 * row + i` of line `j` holds input `4 * j + i` in its low and
//! input `4 * (j + 4) + i` in its high nibble; 8-bit codes fill eight lines in the same way. Codes are unsigned (see
//! `Block`), as the machine's dot product wants them. A plain tile is `[n_cols, 16]` f32. Rows beyond the last are zero.

use std::ops::Range;

use half::f16;

use crate::blocks::Block;
use crate::lines::{Arena, LINE, Lines};
use crate::simd::LANES;
use crate::{BLOCK_LEN, BlockFormat, Grain, KernelError, MatrixData, MatrixPart};

/// Bytes of sixteen f16.
pub(crate) const HALVES: usize = 2 * LANES;

/// How the codes of a tile's block are laid out.
#[derive(Clone, Copy)]
pub(crate) struct BlockLayout {
    /// Lines of codes.
    pub(crate) n_lines: usize,
    /// Whether sixteen minimums follow the scales.
    pub(crate) has_minimums: bool,
}

impl BlockLayout {
    pub(crate) const fn of(format: BlockFormat) -> Self {
        match format {
            BlockFormat::Q4_0 => Self {
                n_lines: 4,
                has_minimums: false,
            },
            BlockFormat::Q4_1 => Self {
                n_lines: 4,
                has_minimums: true,
            },
            BlockFormat::Q8_0 => Self {
                n_lines: 8,
                has_minimums: false,
            },
        }
    }

    /// Bytes of a pair's block.
    pub(crate) const fn bytes(self) -> usize {
        2 * (self.n_lines * LINE + self.halves_len())
    }

    /// Bytes of a tile's scales and minimums in a block.
    const fn halves_len(self) -> usize {
        if self.has_minimums {
            2 * HALVES
        } else {
            HALVES
        }
    }

    /// Where line `line_idx` of the codes of tile `which` of a pair begins in a block.
    pub(crate) const fn line_at(self, line_idx: usize, which: usize) -> usize {
        (2 * line_idx + which) * LINE
    }

    /// Where the scales of tile `which` of a pair begin in a block; its minimums follow.
    pub(crate) const fn scales_at(self, which: usize) -> usize {
        2 * self.n_lines * LINE + which * self.halves_len()
    }

    /// Where input `i` of a row of tile `which` lies: its byte, and whether in the high nibble.
    fn place(self, (which, row): (usize, usize), i: usize) -> (usize, bool) {
        let (line, lane_byte) = (i / 4, 4 * row + i % 4);
        let at = self.line_at(line % self.n_lines, which) + lane_byte;
        (at, line >= self.n_lines)
    }

    fn put(self, target: &mut [u8], (which, row): (usize, usize), block: &Block) {
        for (i, &code) in block.codes.iter().enumerate() {
            let (at, is_high) = self.place((which, row), i);
            target[at] |= if is_high { code << 4 } else { code };
        }
        let scales = self.scales_at(which) + 2 * row;
        target[scales..scales + 2].copy_from_slice(&block.scale.to_le_bytes());
        if self.has_minimums {
            let minimums = scales + HALVES;
            target[minimums..minimums + 2].copy_from_slice(&block.minimum.to_le_bytes());
        }
    }

    fn read(self, source: &[u8], (which, row): (usize, usize), offset: i32, out: &mut [f32]) {
        let half_at = |at: usize| f16::from_le_bytes([source[at], source[at + 1]]).to_f32();
        let scales = self.scales_at(which) + 2 * row;
        let scale = half_at(scales);
        let minimum = if self.has_minimums {
            half_at(scales + HALVES)
        } else {
            0.0
        };
        for (i, out) in out.iter_mut().enumerate() {
            let (at, is_high) = self.place((which, row), i);
            let byte = source[at];
            let code = match (self.n_lines, is_high) {
                (8, _) => byte,
                (_, true) => byte >> 4,
                (_, false) => byte & 15,
            };
            *out = scale * (i32::from(code) - offset) as f32 + minimum;
        }
    }
}

/// The tiles of some pairs.
#[derive(Debug)]
enum Tiles {
    /// `[n_pairs, 2, n_cols, 16]`.
    Plain(Vec<f32>),
    /// `[n_pairs, n_blocks]` blocks.
    Blocks(BlockFormat, Lines),
}

/// A pair of tiles.
#[derive(Clone, Copy)]
pub(crate) enum Pair<'a> {
    /// `[n_cols, 16]` each.
    Plain([&'a [[f32; LANES]]; 2]),
    /// `n_blocks` blocks.
    Blocks(BlockFormat, &'a [u8]),
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
    tiles: Tiles,
}

/// One output row: among which pairs its tile is, which pair, which tile of it, which lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pairs_idx: usize,
    pub(crate) pair_idx: usize,
    pub(crate) which: usize,
    lane: usize,
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

    fn put_plain(&mut self, first_row: usize, values: &[f32], n_cols: usize) {
        for (row, row_idx) in values.chunks_exact(n_cols).zip(first_row..) {
            let (pair_idx, which, lane) = self.find(row_idx).expect("a row of these pairs");
            let Tiles::Plain(tiles) = &mut self.tiles else {
                panic!("plain rows of plain pairs");
            };
            let at = (2 * pair_idx + which) * n_cols * LANES;
            let tile = &mut tiles[at..at + n_cols * LANES];
            for (column, &value) in tile.as_chunks_mut::<LANES>().0.iter_mut().zip(row) {
                column[lane] = value;
            }
        }
    }

    fn put_blocks(&mut self, first_row: usize, format: BlockFormat, bytes: &[u8], n_cols: usize) {
        let (layout, n_blocks) = (BlockLayout::of(format), n_cols / BLOCK_LEN);
        let rows = bytes.chunks_exact(n_blocks * format.block_bytes());
        for (row, row_idx) in rows.zip(first_row..) {
            let (pair_idx, which, lane) = self.find(row_idx).expect("a row of these pairs");
            let Tiles::Blocks(_, lines) = &mut self.tiles else {
                panic!("quantised rows of quantised pairs");
            };
            let pair = &mut lines.bytes_mut()[pair_idx * n_blocks * layout.bytes()..];
            let blocks = row.chunks_exact(format.block_bytes());
            for (block, target) in blocks.zip(pair.chunks_exact_mut(layout.bytes())) {
                layout.put(target, (which, lane), &format.unpack(block));
            }
        }
    }

    pub(crate) fn n_pairs(&self) -> usize {
        self.n_pairs
    }

    /// The output rows of both tiles of a pair; the second may have none.
    #[inline(always)]
    pub(crate) fn rows(&self, pair_idx: usize) -> [Range<usize>; 2] {
        self.strands.map(|strand| strand.rows(pair_idx))
    }

    /// A pair of a matrix of `n_cols` inputs.
    #[inline(always)]
    pub(crate) fn weights(&self, pair_idx: usize, n_cols: usize) -> Pair<'_> {
        match &self.tiles {
            Tiles::Plain(values) => {
                let pair = &values[2 * pair_idx * n_cols * LANES..][..2 * n_cols * LANES];
                Pair::Plain(pair.as_chunks().0.split_at(n_cols).into())
            }
            Tiles::Blocks(format, lines) => {
                let n_bytes = n_cols / BLOCK_LEN * BlockLayout::of(*format).bytes();
                Pair::Blocks(*format, &lines.bytes()[pair_idx * n_bytes..][..n_bytes])
            }
        }
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
    pub(crate) fn new(
        arena: &mut Arena,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        grain: Grain,
    ) -> Result<Self, KernelError> {
        for part in parts {
            part.check(n_cols)?;
        }
        let mut matrix = Self {
            n_cols,
            n_rows: parts.iter().map(|part| part.n_rows).sum(),
            grain,
            pairs: Vec::with_capacity(parts.len()),
        };
        if let [first, second] = parts
            && is_alike(first, second)
        {
            let n_rows = first.n_rows;
            let strand = |first| Strand {
                first,
                step: LANES,
                end: first + n_rows,
            };
            let strands = [strand(0), strand(n_rows)];
            matrix.add(arena, n_rows.div_ceil(LANES), strands, parts)?;
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
            matrix.add(arena, n_pairs, strands, std::slice::from_ref(part))?;
            first = end;
        }
        Ok(matrix)
    }

    /// Adds pairs that hold the rows of `parts`, which are of one format.
    fn add(
        &mut self,
        arena: &mut Arena,
        n_pairs: usize,
        strands: [Strand; 2],
        parts: &[MatrixPart<'_>],
    ) -> Result<(), KernelError> {
        let mut pairs = Pairs {
            n_pairs,
            strands,
            tiles: Tiles::Plain(Vec::new()),
        };
        let n_cols = self.n_cols;
        match parts[0].data {
            MatrixData::F32(_) => {
                pairs.tiles = Tiles::Plain(vec![0.0; 2 * n_pairs * n_cols * LANES]);
            }
            MatrixData::Blocks(format, _) => {
                let n_bytes = n_cols / BLOCK_LEN * BlockLayout::of(format).bytes();
                pairs.tiles = Tiles::Blocks(format, arena.zeroed(n_pairs * n_bytes)?);
            }
        }
        let mut first_row = strands[0].first;
        for part in parts {
            match part.data {
                MatrixData::F32(values) => pairs.put_plain(first_row, values, n_cols),
                MatrixData::Blocks(format, bytes) => {
                    pairs.put_blocks(first_row, format, bytes, n_cols);
                }
            }
            first_row += part.n_rows;
        }
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

    /// Whether any part is quantised.
    pub(crate) fn has_blocks(&self) -> bool {
        let is_quantised = |pairs: &Pairs| matches!(pairs.tiles, Tiles::Blocks(..));
        self.pairs.iter().any(is_quantised)
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
        match self.pairs[place.pairs_idx].weights(place.pair_idx, self.n_cols) {
            Pair::Plain(tiles) => {
                for (out, column) in out.iter_mut().zip(tiles[place.which]) {
                    *out = column[place.lane];
                }
            }
            Pair::Blocks(format, pair) => {
                let layout = BlockLayout::of(format);
                let blocks = pair.chunks_exact(layout.bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(BLOCK_LEN)) {
                    layout.read(block, (place.which, place.lane), format.offset(), out);
                }
            }
        }
    }
}

/// Whether two parts have as many rows and one format.
fn is_alike(a: &MatrixPart<'_>, b: &MatrixPart<'_>) -> bool {
    let is_one_format = match (a.data, b.data) {
        (MatrixData::F32(_), MatrixData::F32(_)) => true,
        (MatrixData::Blocks(a, _), MatrixData::Blocks(b, _)) => a == b,
        _ => false,
    };
    is_one_format && a.n_rows == b.n_rows
}
