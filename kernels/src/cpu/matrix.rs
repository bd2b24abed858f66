//! Weights in tiles of sixteen output rows: the file's own bits in another order.
//!
//! A *tile* is sixteen output rows and all their inputs. A quantised tile is a run of blocks of 32
//! inputs; a block is its codes, sixteen f16 scales and, for Q4_1, sixteen f16 minimums. A lane of a
//! vector is a row. 4-bit codes fill four 64-byte lines: byte `4 * row + i` of line `j` holds input
//! `4 * j + i` in its low and input `4 * (j + 4) + i` in its high nibble; 8-bit codes fill eight lines
//! in the same way. Codes are unsigned (see `Block`), as the machine's dot product wants them. A plain
//! tile is `[n_cols, 16]` f32. Rows beyond the last are zero.

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

    /// Bytes of sixteen rows of a block.
    pub(crate) const fn bytes(self) -> usize {
        self.n_lines * LINE
            + if self.has_minimums {
                2 * HALVES
            } else {
                HALVES
            }
    }

    /// Where input `i` of row `row` lies: its byte, and whether in the high nibble.
    fn place(self, row: usize, i: usize) -> (usize, bool) {
        let (line, lane_byte) = (i / 4, 4 * row + i % 4);
        (line % self.n_lines * LINE + lane_byte, line >= self.n_lines)
    }

    fn put(self, target: &mut [u8], row: usize, block: &Block) {
        for (i, &code) in block.codes.iter().enumerate() {
            let (at, is_high) = self.place(row, i);
            target[at] |= if is_high { code << 4 } else { code };
        }
        let scales = self.n_lines * LINE + 2 * row;
        target[scales..scales + 2].copy_from_slice(&block.scale.to_le_bytes());
        if self.has_minimums {
            let minimums = scales + HALVES;
            target[minimums..minimums + 2].copy_from_slice(&block.minimum.to_le_bytes());
        }
    }

    fn read(self, source: &[u8], row: usize, offset: i32, out: &mut [f32]) {
        let half_at = |at: usize| f16::from_le_bytes([source[at], source[at + 1]]).to_f32();
        let scales = self.n_lines * LINE + 2 * row;
        let scale = half_at(scales);
        let minimum = if self.has_minimums {
            half_at(scales + HALVES)
        } else {
            0.0
        };
        for (i, out) in out.iter_mut().enumerate() {
            let (at, is_high) = self.place(row, i);
            let code = match (self.n_lines, is_high) {
                (8, _) => source[at],
                (_, true) => source[at] >> 4,
                (_, false) => source[at] & 15,
            };
            *out = scale * (i32::from(code) - offset) as f32 + minimum;
        }
    }
}

/// The tiles of one part.
#[derive(Debug)]
pub(crate) enum Tiles {
    /// `[n_tiles, n_cols, 16]`.
    Plain(Vec<f32>),
    /// `[n_tiles, n_blocks]` blocks.
    Blocks(BlockFormat, Lines),
}

/// One tile.
#[derive(Clone, Copy)]
pub(crate) enum Tile<'a> {
    /// `[n_cols, 16]`.
    Plain(&'a [[f32; LANES]]),
    /// `n_blocks` blocks.
    Blocks(BlockFormat, &'a [u8]),
}

impl Tiles {
    /// A tile of a matrix of `n_cols` inputs.
    #[inline(always)]
    pub(crate) fn weights(&self, tile_idx: usize, n_cols: usize) -> Tile<'_> {
        match self {
            Tiles::Plain(values) => {
                let tile = &values[tile_idx * n_cols * LANES..][..n_cols * LANES];
                Tile::Plain(tile.as_chunks().0)
            }
            Tiles::Blocks(format, lines) => {
                let n_bytes = n_cols / BLOCK_LEN * BlockLayout::of(*format).bytes();
                Tile::Blocks(*format, &lines.bytes()[tile_idx * n_bytes..][..n_bytes])
            }
        }
    }
}

/// Consecutive output rows of one format.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first_row: usize,
    pub(crate) n_rows: usize,
    pub(crate) tiles: Tiles,
}

impl Part {
    pub(crate) fn n_tiles(&self) -> usize {
        self.n_rows.div_ceil(LANES)
    }

    /// Pairs of tiles, the last of which may be a single one.
    pub(crate) fn n_pairs(&self) -> usize {
        self.n_tiles().div_ceil(2)
    }
}

/// A weight matrix of a [`crate::Cpu`].
#[derive(Debug)]
pub struct Matrix {
    n_cols: usize,
    n_rows: usize,
    grain: Grain,
    parts: Vec<Part>,
}

impl Matrix {
    pub(crate) fn new(
        arena: &mut Arena,
        n_cols: usize,
        parts: &[MatrixPart<'_>],
        grain: Grain,
    ) -> Result<Self, KernelError> {
        let mut matrix = Self {
            n_cols,
            n_rows: 0,
            grain,
            parts: Vec::with_capacity(parts.len()),
        };
        for part in parts {
            part.check(n_cols)?;
            let tiles = match part.data {
                MatrixData::F32(values) => Tiles::Plain(plain_tiles(values, part.n_rows, n_cols)),
                MatrixData::Blocks(format, bytes) => {
                    let tiles = block_tiles(arena, format, bytes, (part.n_rows, n_cols))?;
                    Tiles::Blocks(format, tiles)
                }
            };
            matrix.parts.push(Part {
                first_row: matrix.n_rows,
                n_rows: part.n_rows,
                tiles,
            });
            matrix.n_rows += part.n_rows;
        }
        Ok(matrix)
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

    /// Whether all parts are of one format.
    pub(crate) fn is_uniform(&self) -> bool {
        let format = |part: &Part| match part.tiles {
            Tiles::Plain(_) => None,
            Tiles::Blocks(format, _) => Some(format),
        };
        self.parts
            .windows(2)
            .all(|pair| format(&pair[0]) == format(&pair[1]))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether any part is quantised.
    pub(crate) fn has_blocks(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part.tiles, Tiles::Blocks(..)))
    }

    /// The plain values of one output row.
    pub(crate) fn read_row(&self, row_idx: usize, out: &mut [f32]) {
        let part = self
            .parts
            .iter()
            .find(|part| (part.first_row..part.first_row + part.n_rows).contains(&row_idx))
            .expect("the row is within the matrix");
        let (tile_idx, lane) = (
            (row_idx - part.first_row) / LANES,
            (row_idx - part.first_row) % LANES,
        );
        match &part.tiles {
            Tiles::Plain(values) => {
                let tile = &values[tile_idx * self.n_cols * LANES..][..self.n_cols * LANES];
                for (out, column) in out.iter_mut().zip(tile.as_chunks::<LANES>().0) {
                    *out = column[lane];
                }
            }
            Tiles::Blocks(format, lines) => {
                let layout = BlockLayout::of(*format);
                let n_blocks = self.n_cols / BLOCK_LEN;
                let tile = &lines.bytes()[tile_idx * n_blocks * layout.bytes()..];
                let blocks = tile.chunks_exact(layout.bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(BLOCK_LEN)) {
                    layout.read(block, lane, format.offset(), out);
                }
            }
        }
    }
}

fn plain_tiles(values: &[f32], n_rows: usize, n_cols: usize) -> Vec<f32> {
    let mut tiles = vec![0.0; n_rows.div_ceil(LANES) * n_cols * LANES];
    for (row_idx, row) in values.chunks_exact(n_cols).enumerate() {
        let tile = &mut tiles[row_idx / LANES * n_cols * LANES..][..n_cols * LANES];
        for (column, &value) in tile.as_chunks_mut::<LANES>().0.iter_mut().zip(row) {
            column[row_idx % LANES] = value;
        }
    }
    tiles
}

fn block_tiles(
    arena: &mut Arena,
    format: BlockFormat,
    bytes: &[u8],
    (n_rows, n_cols): (usize, usize),
) -> Result<Lines, KernelError> {
    let layout = BlockLayout::of(format);
    let n_blocks = n_cols / BLOCK_LEN;
    let mut lines = arena.zeroed(n_rows.div_ceil(LANES) * n_blocks * layout.bytes())?;
    let target = lines.bytes_mut();
    for (row_idx, row) in bytes
        .chunks_exact(n_blocks * format.block_bytes())
        .enumerate()
    {
        for (block_idx, block) in row.chunks_exact(format.block_bytes()).enumerate() {
            let at = (row_idx / LANES * n_blocks + block_idx) * layout.bytes();
            let target = &mut target[at..at + layout.bytes()];
            layout.put(target, row_idx % LANES, &format.unpack(block));
        }
    }
    Ok(lines)
}
