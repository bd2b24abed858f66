//! Products of weights and activations, from the quantisation of the activations to what is done with the result.
//!
//! Each output element is one lane's running sum over the blocks (or, for plain weights, the inputs)
//! in ascending order. How many tiles and columns are computed side by side, which thread computes them and
//! which tier it uses changes nothing in that sum, so it changes no bit.
//!
//! Few columns are shared out by tiles: each thread reads its own part of the weights. Many are shared out
//! themselves: a thread normalises, quantises and multiplies its own columns, and meets no other.

mod picked;

use std::ops::Range;

use super::Vectors;
use super::elementwise::{RmsNorm, activate};
use super::matrix::{BlockLayout, HALVES, Matrix, Part, Tile};
use super::quantise::{Block, GROUPS, Quantise};
use crate::buffer::Buffer;
use crate::lines::LINE;
use crate::pool::Pool;
use crate::shared::SharedSlice;
use crate::simd::{self, Kernel, LANES, Simd};
use crate::{Activation, BLOCK_LEN, BlockFormat, Grain};

/// Columns whose activations stay in the nearer caches while all tiles pass over them.
const N_RESIDENT: usize = 96;
/// Columns a thread must have for columns, not tiles, to be shared out.
const N_OWN_COLUMNS: usize = 48;
/// Columns from which more than one thread is worth waking to quantise them.
const N_WORTHWHILE: usize = 4;
/// Columns that one pass over two tiles takes together, at most.
const N_TOGETHER: usize = 6;

/// The norm that activations go through first: its weight and epsilon.
pub(crate) type Norm<'a> = (&'a [f32], f32);

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    /// `out = product + bias`.
    Store(Option<&'a [f32]>),
    /// `out += product + bias`.
    Add(Option<&'a [f32]>),
    /// `out = activation(gate) * up`: of the first half of the rows and the second.
    Gate(Activation),
}

/// Activations on their way into a product; kept from one to the next, so that none allocates.
#[derive(Default)]
pub(crate) struct Prepared {
    /// `[n_columns, n_blocks]`; empty if no weights are quantised.
    blocks: Vec<Block>,
    /// Normalised columns, `[n_columns, n_cols]`.
    normed: Vec<f32>,
}

/// One product.
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) x: &'a Buffer,
    pub(crate) norm: Option<Norm<'a>>,
    pub(crate) then: Then<'a>,
}

impl Product<'_> {
    /// Computes it into `out`, which has as many rows as `x`.
    pub(crate) fn run(
        &self,
        pool: &mut Pool,
        vectors: Vectors,
        prepared: &mut Prepared,
        out: &mut Buffer,
    ) {
        let n_columns = self.x.n_rows();
        let task = self.task(vectors, prepared, out);
        let n_pairs = self.n_pairs();
        if n_columns < N_OWN_COLUMNS * pool.n_threads() {
            pool.run_split(n_columns, N_WORTHWHILE, |columns| task.prepare(columns));
            pool.run_split(n_pairs, 2, |pairs| {
                task.multiply(pairs, 0..n_columns);
            });
        } else {
            let n_groups = n_columns.div_ceil(N_TOGETHER);
            pool.run_split(n_groups, 2, |groups| {
                let columns = groups.start * N_TOGETHER..n_columns.min(groups.end * N_TOGETHER);
                for first in columns.clone().step_by(N_RESIDENT) {
                    let columns = first..columns.end.min(first + N_RESIDENT);
                    task.prepare(columns.clone());
                    task.multiply(0..n_pairs, columns);
                }
            });
        }
    }

    /// The product with room for its activations, once the shapes have been found to agree.
    fn task<'t>(
        &'t self,
        vectors: Vectors,
        prepared: &'t mut Prepared,
        out: &'t mut Buffer,
    ) -> Task<'t> {
        let (n_columns, n_cols) = (self.x.n_rows(), self.matrix.n_cols());
        assert_eq!(self.x.width(), n_cols, "inputs of a matrix");
        assert_eq!(out.n_rows(), n_columns, "rows of a product");
        let n_outputs = match self.then {
            Then::Gate(_) => self.matrix.n_rows() / 2,
            _ => self.matrix.n_rows(),
        };
        assert_eq!(out.width(), n_outputs, "outputs of a matrix");
        if let Then::Gate(_) = self.then {
            let [gate, up] = self.matrix.parts() else {
                panic!("a gated product has two parts")
            };
            assert_eq!(gate.n_rows, up.n_rows, "a gate for each up");
        }
        let n_blocks = if self.matrix.has_blocks() {
            n_cols / BLOCK_LEN
        } else {
            0
        };
        prepared
            .blocks
            .resize(n_columns * n_blocks, Block::default());
        let n_normed = if self.norm.is_some() {
            n_columns * n_cols
        } else {
            0
        };
        prepared.normed.resize(n_normed, 0.0);
        let width = out.width();
        Task {
            product: self,
            vectors,
            n_blocks,
            blocks: SharedSlice::new(&mut prepared.blocks),
            normed: SharedSlice::new(&mut prepared.normed),
            out: SharedSlice::new(out.values_mut()),
            width,
        }
    }

    /// How many pairs the tiles make.
    fn n_pairs(&self) -> usize {
        let parts = self.matrix.parts();
        match self.then {
            Then::Gate(_) => parts[0].n_tiles(),
            _ => parts.iter().map(Part::n_pairs).sum(),
        }
    }

    /// Tiles that are taken together: neighbours, or a gate and its up.
    fn pair(&self, mut pair_idx: usize) -> Pair<'_> {
        let parts = self.matrix.parts();
        if let Then::Gate(_) = self.then {
            let tiles = [(&parts[0], pair_idx), (&parts[1], pair_idx)];
            return Pair { tiles, n_tiles: 2 };
        }
        let mut parts = parts.iter();
        let part = parts.find(|part| {
            let is_here = pair_idx < part.n_pairs();
            pair_idx -= if is_here { 0 } else { part.n_pairs() };
            is_here
        });
        let part = part.expect("a pair of the matrix");
        let (tile, n_tiles) = (2 * pair_idx, 2.min(part.n_tiles() - 2 * pair_idx));
        let tiles = [(part, tile), (part, tile + n_tiles - 1)];
        Pair { tiles, n_tiles }
    }
}

/// One or two tiles.
#[derive(Clone, Copy)]
struct Pair<'a> {
    tiles: [(&'a Part, usize); 2],
    n_tiles: usize,
}

/// A product under way.
struct Task<'a> {
    product: &'a Product<'a>,
    vectors: Vectors,
    n_blocks: usize,
    blocks: SharedSlice<'a, Block>,
    normed: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
    width: usize,
}

impl Task<'_> {
    /// Normalises and quantises some columns.
    fn prepare(&self, columns: Range<usize>) {
        let n_cols = self.product.matrix.n_cols();
        for column in columns {
            let x = self.product.x.row(column);
            let x = match self.product.norm {
                None => x,
                Some((weight, eps)) => {
                    // SAFETY: columns are split among the threads, so nobody else has this one.
                    let out =
                        unsafe { self.normed.part_mut(column * n_cols..(column + 1) * n_cols) };
                    self.vectors.run(RmsNorm {
                        x,
                        weight,
                        eps,
                        out,
                    });
                    &*out
                }
            };
            let range = column * self.n_blocks..(column + 1) * self.n_blocks;
            // SAFETY: as above.
            let blocks = unsafe { self.blocks.part_mut(range) };
            self.vectors.run(Quantise {
                values: x,
                grain: self.product.matrix.grain(),
                blocks,
            });
        }
    }

    /// Multiplies some pairs of tiles and some columns, which have been prepared.
    fn multiply(&self, pairs: Range<usize>, columns: Range<usize>) {
        for pair_idx in pairs {
            let (pair, columns) = (self.product.pair(pair_idx), columns.clone());
            self.vectors.run(PairProduct {
                task: self,
                pair,
                columns,
            });
        }
    }

    /// The prepared blocks of a column.
    #[inline(always)]
    fn column(&self, column: usize) -> &[Block] {
        // SAFETY: the column has been prepared, and nobody writes it before the next product.
        unsafe {
            self.blocks
                .part(column * self.n_blocks..(column + 1) * self.n_blocks)
        }
    }

    /// The plain values of a column.
    #[inline(always)]
    fn plain_column(&self, column: usize) -> &[f32] {
        match self.product.norm {
            None => self.product.x.row(column),
            Some(_) => {
                let n_cols = self.product.matrix.n_cols();
                // SAFETY: as in `column`.
                unsafe { self.normed.part(column * n_cols..(column + 1) * n_cols) }
            }
        }
    }

    /// Does with finished lanes of one column what is to be done: `sums[i]` are those of tile `i`.
    #[inline(always)]
    fn put<S: Simd, const T: usize>(&self, s: S, pair: &Pair<'_>, column: usize, sums: [S::F; T]) {
        if let Then::Gate(activation) = self.product.then {
            let (gate, tile) = pair.tiles[0];
            let activated = s.mul(activate(s, activation, sums[0]), sums[T - 1]);
            self.put_tile(s, (gate.n_rows, tile * LANES), column, activated);
        } else {
            for (i, &sums) in sums.iter().enumerate() {
                let (part, tile) = pair.tiles[i];
                let first = part.first_row + tile * LANES;
                self.put_tile(s, (part.first_row + part.n_rows, first), column, sums);
            }
        }
    }

    /// Stores or adds the rows from `first` on, of which those from `end` on do not exist.
    #[inline(always)]
    fn put_tile<S: Simd>(&self, s: S, (end, first): (usize, usize), column: usize, sums: S::F) {
        let n_rows = LANES.min(end - first);
        let at = column * self.width + first;
        // SAFETY: either tiles or columns are split among the threads, so nobody else has these rows.
        let target = unsafe { self.out.part_mut(at..at + n_rows) };
        let (bias, is_added) = match self.product.then {
            Then::Store(bias) => (bias, false),
            Then::Add(bias) => (bias, true),
            Then::Gate(_) => (None, false),
        };
        if let (Ok(target), None) = (<&mut [f32; LANES]>::try_from(&mut *target), bias) {
            let sums = if is_added {
                s.add(s.load(target), sums)
            } else {
                sums
            };
            return s.store(sums, target);
        }
        let mut lanes = [0.0; LANES];
        s.store(sums, &mut lanes);
        for (i, target) in target.iter_mut().enumerate() {
            let sum = lanes[i] + bias.map_or(0.0, |bias| bias[first + i]);
            *target = if is_added { *target + sum } else { sum };
        }
    }
}

/// One or two tiles times some columns.
struct PairProduct<'a> {
    task: &'a Task<'a>,
    pair: Pair<'a>,
    columns: Range<usize>,
}

impl Kernel for PairProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [(a, i), (b, j)] = self.pair.tiles;
        let n_cols = self.task.product.matrix.n_cols();
        let weights = [a.tiles.weights(i, n_cols), b.tiles.weights(j, n_cols)];
        match self.task.product.matrix.grain() {
            Grain::Sixteen => self.by_format::<S, 2>(s, weights),
            Grain::ThirtyTwo => self.by_format::<S, 1>(s, weights),
        }
    }
}

impl<'a> PairProduct<'a> {
    #[inline(always)]
    fn by_format<S: Simd, const H: usize>(&self, s: S, weights: [Tile<'a>; 2]) {
        use BlockFormat as F;
        match weights {
            _ if self.pair.n_tiles == 1 => match weights[0] {
                Tile::Plain(a) => self.each_group::<S, Plain, 1>(s, [a]),
                Tile::Blocks(F::Q4_0, a) => self.each_group::<S, Nibbles<8, false, H>, 1>(s, [a]),
                Tile::Blocks(F::Q4_1, a) => self.each_group::<S, Nibbles<0, true, H>, 1>(s, [a]),
                Tile::Blocks(F::Q8_0, a) => self.each_group::<S, Bytes<H>, 1>(s, [a]),
            },
            [Tile::Plain(a), Tile::Plain(b)] => self.each_group::<S, Plain, 2>(s, [a, b]),
            [Tile::Blocks(F::Q4_0, a), Tile::Blocks(F::Q4_0, b)] => {
                self.each_group::<S, Nibbles<8, false, H>, 2>(s, [a, b]);
            }
            [Tile::Blocks(F::Q4_1, a), Tile::Blocks(F::Q4_1, b)] => {
                self.each_group::<S, Nibbles<0, true, H>, 2>(s, [a, b]);
            }
            [Tile::Blocks(F::Q8_0, a), Tile::Blocks(F::Q8_0, b)] => {
                self.each_group::<S, Bytes<H>, 2>(s, [a, b]);
            }
            _ => panic!("tiles of one pair have one format"),
        }
    }
}

impl<'a> PairProduct<'a> {
    /// Covers the columns with groups of six, four, two and single ones. Six are for machines with registers for all their
    /// sums; four are the best of the others, though some of theirs go through memory.
    #[inline(always)]
    fn each_group<S: Simd, W: Weights, const T: usize>(&self, s: S, tiles: [W::Tile<'a>; T]) {
        let (mut column, end) = (self.columns.start, self.columns.end);
        while column < end {
            let n_left = (end - column).min(if S::IS_WIDE { 6 } else { 4 });
            column += match n_left {
                6.. => self.group::<S, W, T, 6>(s, tiles, column),
                4.. => self.group::<S, W, T, 4>(s, tiles, column),
                2.. => self.group::<S, W, T, 2>(s, tiles, column),
                _ => self.group::<S, W, T, 1>(s, tiles, column),
            };
        }
    }

    /// Computes `C` columns and returns their number.
    #[inline(always)]
    fn group<S: Simd, W: Weights, const T: usize, const C: usize>(
        &self,
        s: S,
        tiles: [W::Tile<'a>; T],
        column: usize,
    ) -> usize {
        // A kernel of its own, so that its registers are allotted for it alone.
        s.run(Group::<W, T, C> {
            task: self.task,
            pair: self.pair,
            tiles,
            column,
            is_first: column == self.columns.start,
        });
        C
    }
}

/// `T` tiles times `C` columns from `column` on.
struct Group<'a, W: Weights, const T: usize, const C: usize> {
    task: &'a Task<'a>,
    pair: Pair<'a>,
    tiles: [W::Tile<'a>; T],
    column: usize,
    /// Whether these columns are the first that the tiles are multiplied by.
    is_first: bool,
}

impl<W: Weights, const T: usize, const C: usize> Kernel for Group<'_, W, T, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let sums = W::product::<S, T, C>(s, self.task, self.tiles, self.column, self.is_first);
        for (c, column) in (self.column..self.column + C).enumerate() {
            let mut of_column = [s.splat(0.0); T];
            for t in 0..T {
                of_column[t] = sums[t][c];
            }
            self.task.put(s, &self.pair, column, of_column);
        }
    }
}

/// A format of tiles.
trait Weights {
    /// One tile's weights.
    type Tile<'a>: Copy;

    /// `T` tiles times `C` columns from `column` on. While the first columns are computed, the tiles that come next are
    /// fetched.
    fn product<S: Simd, const T: usize, const C: usize>(
        s: S,
        task: &Task<'_>,
        tiles: [Self::Tile<'_>; T],
        column: usize,
        is_first: bool,
    ) -> [[S::F; C]; T];
}

struct Plain;

impl Weights for Plain {
    /// `[n_cols, 16]`.
    type Tile<'a> = &'a [[f32; LANES]];

    #[inline(always)]
    fn product<S: Simd, const T: usize, const C: usize>(
        s: S,
        task: &Task<'_>,
        tiles: [&[[f32; LANES]]; T],
        column: usize,
        _: bool,
    ) -> [[S::F; C]; T] {
        let n_cols = task.product.matrix.n_cols();
        let columns: [&[f32]; C] =
            std::array::from_fn(|c| &task.plain_column(column + c)[..n_cols]);
        let tiles = tiles.map(|tile| &tile[..n_cols]);
        let mut sums = [[s.splat(0.0); C]; T];
        for k in 0..n_cols {
            for t in 0..T {
                let weights = s.load(&tiles[t][k]);
                for c in 0..C {
                    sums[t][c] = s.mul_add(weights, s.splat(columns[c][k]), sums[t][c]);
                }
            }
        }
        sums
    }
}

/// How codes become integers: a quantised format whose activations have `H` scales a block.
trait Codes<const H: usize> {
    const LAYOUT: BlockLayout;
    /// What is subtracted from a code.
    const OFFSET: i32;
    /// The order in which the groups of a part of the block are taken; sums of integers do not depend on it.
    const ORDER: [usize; GROUPS];

    /// The codes of one group of four inputs, of the sixteen rows.
    fn group<S: Simd>(s: S, block: &[u8], group: usize) -> S::I;
}

/// 4-bit codes.
struct Nibbles<const OFFSET: i32, const HAS_MINIMUMS: bool, const H: usize>;

impl<const OFFSET: i32, const HAS_MINIMUMS: bool, const H: usize> Codes<H>
    for Nibbles<OFFSET, HAS_MINIMUMS, H>
{
    const LAYOUT: BlockLayout = BlockLayout {
        n_lines: 4,
        has_minimums: HAS_MINIMUMS,
    };
    const OFFSET: i32 = OFFSET;
    // Both nibbles of a line one after the other, where they belong to one sum.
    const ORDER: [usize; GROUPS] = if H == 1 {
        [0, 4, 1, 5, 2, 6, 3, 7]
    } else {
        [0, 1, 2, 3, 4, 5, 6, 7]
    };

    #[inline(always)]
    fn group<S: Simd>(s: S, block: &[u8], group: usize) -> S::I {
        let bytes = s.load_bytes(line(block, group % 4));
        if group < 4 {
            s.low_nibbles(bytes)
        } else {
            s.high_nibbles(bytes)
        }
    }
}

/// 8-bit codes.
struct Bytes<const H: usize>;

impl<const H: usize> Codes<H> for Bytes<H> {
    const LAYOUT: BlockLayout = BlockLayout::of(BlockFormat::Q8_0);
    const OFFSET: i32 = BlockFormat::Q8_0.offset();
    const ORDER: [usize; GROUPS] = [0, 1, 2, 3, 4, 5, 6, 7];

    #[inline(always)]
    fn group<S: Simd>(s: S, block: &[u8], group: usize) -> S::I {
        s.load_bytes(line(block, group))
    }
}

macro_rules! quantised {
    ([$($parameter:tt)*] $codes:ty) => {
        impl<$($parameter)*> Weights for $codes {
            /// `n_blocks` blocks.
            type Tile<'a> = &'a [u8];

            #[inline(always)]
            fn product<S: Simd, const T: usize, const C: usize>(
                s: S,
                task: &Task<'_>,
                tiles: [&[u8]; T],
                column: usize,
                is_first: bool,
            ) -> [[S::F; C]; T] {
                blocks_product::<S, Self, H, T, C>(s, task, tiles, column, is_first)
            }
        }
    };
}

quantised!([const OFFSET: i32, const HAS_MINIMUMS: bool, const H: usize] Nibbles<OFFSET, HAS_MINIMUMS, H>);
quantised!([const H: usize] Bytes<H>);

/// The product of quantised tiles: the sums of all tiles and columns stay in registers. Arrays are filled in loops: a
/// closure handed to `from_fn` would not be compiled for the tier.
#[inline(always)]
fn blocks_product<S: Simd, W: Codes<H>, const H: usize, const T: usize, const C: usize>(
    s: S,
    task: &Task<'_>,
    tiles: [&[u8]; T],
    column: usize,
    is_first: bool,
) -> [[S::F; C]; T] {
    let mut sums = [[s.splat(0.0); C]; T];
    if T > 1 && C == 1 {
        // Reading the weights is all the work: one after the other is one stream.
        for (sums, tile) in sums.iter_mut().zip(tiles) {
            [*sums] = blocks_product::<S, W, H, 1, C>(s, task, [tile], column, false);
        }
        return sums;
    }
    let (n_blocks, n_bytes) = (task.n_blocks, const { W::LAYOUT.bytes() });
    let columns: [&[Block]; C] = std::array::from_fn(|c| &task.column(column + c)[..n_blocks]);
    let tiles = tiles.map(|tile| &tile[..n_blocks * n_bytes]);
    // The next gate lies behind this one, the next pair of neighbours behind both of these.
    let n_tiles_ahead = if let Then::Gate(_) = task.product.then {
        1
    } else {
        T
    };
    let ahead = n_tiles_ahead * n_blocks * n_bytes;
    for (block_idx, at) in (0..n_blocks).map(|block_idx| (block_idx, block_idx * n_bytes)) {
        let weights: [&[u8]; T] = std::array::from_fn(|t| &tiles[t][at..at + n_bytes]);
        let blocks: [&Block; C] = std::array::from_fn(|c| &columns[c][block_idx]);
        if is_first && C > 1 {
            prefetch(&weights, ahead);
        }
        for half in 0..H {
            let dots = dots::<S, W, H, T, C>(s, &weights, &blocks, half);
            for t in 0..T {
                let scales = halves(s, weights[t], W::LAYOUT.n_lines * LINE);
                for c in 0..C {
                    let scale = s.splat(blocks[c].scales[half]);
                    let dot = s.mul(s.to_f32(dots[t][c]), scale);
                    sums[t][c] = s.mul_add(dot, scales, sums[t][c]);
                }
            }
        }
        if W::LAYOUT.has_minimums {
            for t in 0..T {
                let minimums = halves(s, weights[t], W::LAYOUT.n_lines * LINE + HALVES);
                for c in 0..C {
                    let total = s.splat(blocks[c].total);
                    sums[t][c] = s.mul_add(minimums, total, sums[t][c]);
                }
            }
        }
    }
    sums
}

/// The integer products of one scale's part of a block, one step of four inputs after another: the weights of a step are
/// loaded once for all columns, its codes once for all tiles.
#[inline(always)]
fn dots<S: Simd, W: Codes<H>, const H: usize, const T: usize, const C: usize>(
    s: S,
    weights: &[&[u8]; T],
    blocks: &[&Block; C],
    half: usize,
) -> [[S::I; C]; T] {
    let mut dots = [[s.splat_int(0); C]; T];
    if W::OFFSET != 0 {
        for c in 0..C {
            let [first, second] = blocks[c].sums;
            let sum = match (H, half) {
                (1, _) => first.wrapping_add(second),
                (_, 0) => first,
                _ => second,
            };
            let start = s.splat_int(sum.wrapping_mul(-W::OFFSET));
            for dots in &mut dots {
                dots[c] = start;
            }
        }
    }
    for group in &W::ORDER[half * GROUPS / H..(half + 1) * GROUPS / H] {
        let mut steps = [s.splat_int(0); T];
        for t in 0..T {
            steps[t] = W::group(s, weights[t], *group);
        }
        for c in 0..C {
            let codes = s.splat_int(blocks[c].codes[*group]);
            for t in 0..T {
                dots[t][c] = s.dot4(dots[t][c], steps[t], codes);
            }
        }
    }
    dots
}

/// Asks for the lines that lie `ahead` bytes after some weights.
#[inline(always)]
fn prefetch(weights: &[&[u8]], ahead: usize) {
    for weights in weights {
        for line in weights.chunks(LINE) {
            simd::prefetch(line.as_ptr().wrapping_add(ahead));
        }
    }
}

#[inline(always)]
fn line(block: &[u8], line_idx: usize) -> &[u8; LINE] {
    block[line_idx * LINE..]
        .first_chunk()
        .expect("a block holds its lines")
}

/// The sixteen f16 of a block that begin at byte `at`.
#[inline(always)]
fn halves<S: Simd>(s: S, block: &[u8], at: usize) -> S::F {
    s.load_f16(
        block[at..]
            .first_chunk()
            .expect("a block holds its scales and minimums"),
    )
}
