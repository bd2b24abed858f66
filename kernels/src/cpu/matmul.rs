//! Products of weights and activations, from the quantisation of the activations to what is done with the result.
//!
//! Each output element is one lane's running sum over the blocks (or, for plain weights, the inputs)
//! in ascending order. How many tiles and columns are computed side by side, which thread computes them and
//! which tier it uses changes nothing in that sum, so it changes no bit.
//!
//! Few columns are shared out by tiles: each thread reads its own part of the weights. Many are shared out
//! themselves (see `share`): a thread normalises, quantises and multiplies its own columns, and meets no other.

mod coded;
mod picked;
mod plain;
mod whole;

use std::marker::PhantomData;
use std::ops::Range;

use coded::Coded;
use whole::{Found, WholeProduct};

use super::Vectors;
use super::elementwise::{RmsNorm, activate};
use super::matrix::whole::STEP_LEN;
use super::matrix::{Format, Matrix, Pairs, PlainFormat};
use super::quantise::split::{self, Split};
use super::quantise::{Block, Quantise};
use super::round::{self, Round};
use super::upcoming::Upcoming;
use crate::aligned::Aligned;
use crate::buffer::Buffer;
use crate::lines::LINE;
use crate::pool::Pool;
use crate::share::{N_TOGETHER, is_product_by_rows, share};
use crate::shared::{SharedLines, SharedSlice};
use crate::simd::{self, Kernel, LANES, Simd};
use crate::{Activation, BLOCK_LEN, BlockFormat, Grain};

/// Columns whose activations stay in the nearer caches while all tiles pass over them.
const N_RESIDENT: usize = 96;
/// Columns whose sums of two tiles there are registers for on every tier.
const N_BY_PAIR: usize = 2;
/// Columns from which more than one thread is worth waking to quantise them.
const N_WORTHWHILE: usize = 4;
/// Columns while which the next pair of tiles is fetched, of those that it comes long before.
const N_FETCHING: usize = 16;
/// Pairs that a product is handed at once.
const N_PAIRS: usize = 32;
/// Bytes between the weights that are multiplied and those that are fetched, where each is multiplied once.
const N_AHEAD: usize = 8192;

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
    /// `[n_columns, n_blocks]`, or more; unused if no weights are quantised.
    blocks: Vec<Block>,
    /// `[n_columns, n_lanes]`, or more; unused if no weights are bf16.
    rounded: Aligned<i32>,
    /// `[n_columns, 2, split::n_lanes]`, or more; unused if no weights are whole.
    split: Aligned<i32>,
    /// `[n_columns]`, or more; likewise.
    wholes: Vec<split::Whole>,
    /// What each thread finds in whole weights.
    found: Vec<Found>,
    /// Normalised columns, `[n_columns, n_cols]`, or more.
    normed: Aligned<f32>,
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
        upcoming: &mut [Upcoming],
        out: &mut Buffer,
    ) {
        let n_columns = self.x.n_rows();
        let n_threads = pool.n_threads();
        let mut found = std::mem::take(&mut prepared.found);
        found.resize_with(n_threads, Found::default);
        let task = self.task(vectors, prepared, out);
        let n_pairs = self.n_pairs();
        let owned = (SharedSlice::new(upcoming), SharedSlice::new(&mut found));
        // SAFETY: each thread's index is run once, and has its own.
        let owned = |idx| unsafe {
            (
                &owned.0.part_mut(idx..idx + 1)[0],
                &mut owned.1.part_mut(idx..idx + 1)[0],
            )
        };
        if !is_product_by_rows(n_columns, n_threads) {
            pool.run_split(n_columns, N_WORTHWHILE, |columns| task.prepare(columns));
            pool.run(&|thread_idx| {
                let (upcoming, found) = owned(thread_idx);
                let pairs = share(n_pairs, thread_idx, n_threads);
                task.multiply(pairs, 0..n_columns, upcoming, found);
            });
        } else {
            let n_resident = task.n_resident();
            pool.run_own(n_columns, 0, |thread_idx, runs| {
                let (upcoming, found) = owned(thread_idx);
                for columns in runs {
                    for first in columns.clone().step_by(n_resident) {
                        let columns = first..columns.end.min(first + n_resident);
                        task.prepare(columns.clone());
                        task.multiply(0..n_pairs, columns, upcoming, found);
                    }
                }
            });
        }
        prepared.found = found;
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
            assert!(self.matrix.is_gated(), "a gate for each up");
        }
        let n_blocks = if self.matrix.has_blocks() {
            n_cols / BLOCK_LEN
        } else {
            0
        };
        let n_lanes = if self.matrix.has_bf16() {
            round::n_lanes(n_cols)
        } else {
            0
        };
        let n_split = if self.matrix.has_whole() {
            split::n_lanes(n_cols)
        } else {
            0
        };
        prepared.split.resize(n_columns * 2 * n_split);
        if prepared.wholes.len() < n_columns {
            prepared.wholes.resize(n_columns, split::Whole::default());
        }
        if prepared.blocks.len() < n_columns * n_blocks {
            prepared
                .blocks
                .resize(n_columns * n_blocks, Block::default());
        }
        prepared.rounded.resize(n_columns * n_lanes);
        let n_normed = if self.norm.is_some() {
            n_columns * n_cols
        } else {
            0
        };
        prepared.normed.resize(n_normed);
        let width = out.width();
        Task {
            product: self,
            vectors,
            n_blocks,
            n_lanes,
            n_split,
            blocks: SharedSlice::new(&mut prepared.blocks),
            rounded: SharedSlice::new(&mut prepared.rounded),
            split: SharedSlice::new(&mut prepared.split),
            wholes: SharedSlice::new(&mut prepared.wholes),
            normed: SharedSlice::new(&mut prepared.normed),
            out: SharedSlice::new(out.values_mut()),
            width,
        }
    }

    /// How many pairs the tiles make.
    fn n_pairs(&self) -> usize {
        self.matrix.pairs().iter().map(Pairs::n_pairs).sum()
    }

    fn pair(&self, mut pair_idx: usize) -> TilePair<'_> {
        let mut all = self.matrix.pairs().iter();
        let pairs = all.find(|pairs| {
            let is_here = pair_idx < pairs.n_pairs();
            pair_idx -= if is_here { 0 } else { pairs.n_pairs() };
            is_here
        });
        TilePair::new(pairs.expect("a pair of the matrix"), pair_idx)
    }
}

/// One or two tiles of a pair.
#[derive(Clone)]
struct TilePair<'a> {
    pairs: &'a Pairs,
    pair_idx: usize,
    /// The output rows of each tile.
    rows: [Range<usize>; 2],
    /// The first that is multiplied.
    first: usize,
    n_tiles: usize,
}

impl<'a> TilePair<'a> {
    fn new(pairs: &'a Pairs, pair_idx: usize) -> Self {
        let rows = pairs.rows(pair_idx);
        Self {
            pairs,
            pair_idx,
            n_tiles: if rows[1].is_empty() { 1 } else { 2 },
            rows,
            first: 0,
        }
    }

    fn format(&self) -> Format {
        self.pairs.format()
    }
}

/// A product under way.
struct Task<'a> {
    product: &'a Product<'a>,
    vectors: Vectors,
    n_blocks: usize,
    n_lanes: usize,
    /// Lanes of a plane of split activations.
    n_split: usize,
    blocks: SharedSlice<'a, Block>,
    rounded: SharedSlice<'a, i32>,
    split: SharedSlice<'a, i32>,
    wholes: SharedSlice<'a, split::Whole>,
    normed: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
    width: usize,
}

impl Task<'_> {
    /// Normalises some columns, and quantises and rounds them where weights ask for it.
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
            let range = column * self.n_lanes..(column + 1) * self.n_lanes;
            // SAFETY: as above.
            let lanes = unsafe { self.rounded.part_mut(range) };
            self.vectors.run(Round { values: x, lanes });
            if self.n_split == 0 {
                continue;
            }
            let range = column * 2 * self.n_split..(column + 1) * 2 * self.n_split;
            // SAFETY: as above.
            let lanes = unsafe { self.split.part_mut(range) };
            // SAFETY: as above.
            let whole = unsafe { &mut self.wholes.part_mut(column..column + 1)[0] };
            self.vectors.run(Split {
                values: x,
                lanes,
                whole,
            });
        }
    }

    /// Multiplies some pairs of tiles and some columns, which have been prepared; what is upcoming is fetched meanwhile.
    fn multiply(
        &self,
        pairs: Range<usize>,
        columns: Range<usize>,
        upcoming: &Upcoming,
        found: &mut Found,
    ) {
        let n_together = self.n_together(columns.len());
        found.work(self, (n_together, columns.len()), |found| {
            for first in pairs.clone().step_by(n_together) {
                let last = pairs.end.min(first + n_together) - 1;
                let all: [TilePair<'_>; N_PAIRS] =
                    std::array::from_fn(|i| self.product.pair(last.min(first + i)));
                let alike = |a: &TilePair<'_>, b: &TilePair<'_>| a.format() == b.format();
                for pairs in all[..=last - first].chunk_by(alike) {
                    self.multiply_pairs(pairs, columns.clone(), upcoming, found);
                }
            }
        });
    }

    /// Multiplies pairs of one format and some columns. If these are enough for a unit, it is set up.
    fn multiply_pairs(
        &self,
        pairs: &[TilePair<'_>],
        columns: Range<usize>,
        upcoming: &Upcoming,
        found: &mut Found,
    ) {
        if let Format::Whole(format) = pairs[0].format() {
            return self.vectors.run_with_unit(WholeProduct {
                task: self,
                format,
                pairs,
                columns,
                upcoming,
                found,
            });
        }
        for pair in pairs {
            self.vectors.run(PairProduct {
                task: self,
                pair: pair.clone(),
                columns: columns.clone(),
                upcoming,
            });
        }
    }

    /// Columns that all tiles pass over before others come.
    fn n_resident(&self) -> usize {
        if self.n_split == 0 {
            N_RESIDENT
        } else {
            whole::n_resident(self.n_split)
        }
    }

    /// Pairs that are multiplied together.
    fn n_together(&self, n_columns: usize) -> usize {
        if self.n_split == 0 {
            N_PAIRS
        } else {
            whole::n_together(self.n_steps(), n_columns, N_PAIRS)
        }
    }

    /// Steps of 64 inputs.
    fn n_steps(&self) -> usize {
        self.product.matrix.n_cols() / STEP_LEN
    }

    /// The prepared planes of some columns.
    #[inline(always)]
    fn planes(&self, columns: Range<usize>) -> &[i32] {
        let range = columns.start * 2 * self.n_split..columns.end * 2 * self.n_split;
        // SAFETY: as in `column`.
        unsafe { self.split.part(range) }
    }

    /// What columns' whole products are scaled by.
    #[inline(always)]
    fn wholes(&self, columns: Range<usize>) -> &[split::Whole] {
        // SAFETY: as in `column`.
        unsafe { self.wholes.part(columns) }
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

    /// The prepared lanes of a column.
    #[inline(always)]
    fn rounded_column(&self, column: usize) -> &[i32] {
        // SAFETY: as in `column`.
        unsafe {
            self.rounded
                .part(column * self.n_lanes..(column + 1) * self.n_lanes)
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
    fn put<S: Simd, const T: usize>(
        &self,
        s: S,
        pair: &TilePair<'_>,
        column: usize,
        sums: [S::F; T],
    ) {
        if let Then::Gate(activation) = self.product.then {
            let activated = s.mul(activate(s, activation, sums[0]), sums[T - 1]);
            self.put_tile(s, &pair.rows[0], column, activated);
        } else {
            for (i, &sums) in sums.iter().enumerate() {
                self.put_tile(s, &pair.rows[pair.first + i], column, sums);
            }
        }
    }

    /// The outputs of a pair and `n` columns from `first` on, if they are whole vectors to which nothing is added but what is there.
    fn outputs(&self, pair: &TilePair<'_>, first: usize, n: usize) -> Option<Outputs<'_>> {
        let is_plain = match self.product.then {
            Then::Gate(_) => true,
            Then::Store(bias) | Then::Add(bias) => bias.is_none(),
        };
        let are_whole = pair.n_tiles == 2 && pair.rows.iter().all(|rows| rows.len() == LANES);
        let lines = |rows: &Range<usize>| {
            let at = first * self.width + rows.start;
            self.out.lines(at, self.width, n)
        };
        (is_plain && are_whole).then(|| Outputs {
            then: self.product.then,
            // The rows of an up have none of their own.
            lines: match self.product.then {
                Then::Gate(_) => [lines(&pair.rows[0]), lines(&pair.rows[0])],
                _ => pair.rows.each_ref().map(lines),
            },
        })
    }

    /// Asks for the lines that [`Task::put`] will write.
    #[inline(always)]
    fn expect<const T: usize>(&self, pair: &TilePair<'_>, column: usize) {
        let n_tiles = if let Then::Gate(_) = self.product.then {
            1
        } else {
            T
        };
        for rows in &pair.rows[pair.first..][..n_tiles] {
            let at = column * self.width + rows.start;
            simd::prefetch_to_write(self.out.start().wrapping_add(at).cast());
        }
    }

    /// Stores or adds the outputs of some rows.
    #[inline(always)]
    fn put_tile<S: Simd>(&self, s: S, rows: &Range<usize>, column: usize, sums: S::F) {
        let first = rows.start;
        let at = column * self.width + first;
        // SAFETY: either tiles or columns are split among the threads, so nobody else has these rows.
        let target = unsafe { self.out.part_mut(at..at + rows.len()) };
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

/// Where the outputs of a pair of whole tiles and of some columns go: what [`Task::put`] does, with everything asked once for all columns.
struct Outputs<'a> {
    then: Then<'a>,
    /// Of each tile.
    lines: [SharedLines<'a, f32, LANES>; 2],
}

impl Outputs<'_> {
    /// Does with both tiles' sums of a column what is to be done.
    ///
    /// # Safety
    /// There is such a column, and nobody else has its rows.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, s: S, column_idx: usize, sums: [S::F; 2]) {
        // SAFETY: the caller says so; one line lives at a time.
        let line = |t: usize| unsafe { self.lines[t].line_mut(column_idx) };
        match self.then {
            Then::Gate(activation) => {
                s.store(s.mul(activate(s, activation, sums[0]), sums[1]), line(0));
            }
            Then::Add(_) => {
                for (t, sums) in sums.into_iter().enumerate() {
                    let line = line(t);
                    s.store(s.add(s.load(line), sums), line);
                }
            }
            Then::Store(_) => {
                for (t, sums) in sums.into_iter().enumerate() {
                    s.store(sums, line(t));
                }
            }
        }
    }

    /// Asks for the lines that [`Outputs::put`] will write.
    #[inline(always)]
    fn expect(&self, column_idx: usize) {
        let n_tiles = if let Then::Gate(_) = self.then { 1 } else { 2 };
        for lines in &self.lines[..n_tiles] {
            simd::prefetch_to_write(lines.start(column_idx).cast());
        }
    }
}

/// One or two tiles times some columns.
struct PairProduct<'a> {
    task: &'a Task<'a>,
    pair: TilePair<'a>,
    columns: Range<usize>,
    upcoming: &'a Upcoming,
}

impl Kernel for PairProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.task.product.matrix.grain() {
            Grain::Sixteen | Grain::Whole => self.by_format::<S, 2>(s),
            Grain::ThirtyTwo => self.by_format::<S, 1>(s),
        }
    }
}

impl<'a> PairProduct<'a> {
    #[inline(always)]
    fn by_format<S: Simd, const H: usize>(&self, s: S) {
        use BlockFormat as F;
        let n_cols = self.task.product.matrix.n_cols();
        let pair = self.pair.pairs.weights(self.pair.pair_idx, n_cols);
        match self.pair.format() {
            Format::Plain(format) => match format {
                PlainFormat::F32 => self.by_tiles::<S, plain::Floats<false>>(s, pair),
                PlainFormat::F16 => self.by_tiles::<S, plain::Floats<true>>(s, pair),
                PlainFormat::Bf16 => self.by_tiles::<S, plain::Bf16>(s, pair),
            },
            Format::Blocks(format) => match format {
                F::Q4_0 => self.by_tiles::<S, Coded<{ F::Q4_0 as usize }, H>>(s, pair),
                F::Q4_1 | F::Q4K => self.by_tiles::<S, Coded<{ F::Q4_1 as usize }, H>>(s, pair),
                F::Q5_0 => self.by_tiles::<S, Coded<{ F::Q5_0 as usize }, H>>(s, pair),
                F::Q5_1 | F::Q5K => self.by_tiles::<S, Coded<{ F::Q5_1 as usize }, H>>(s, pair),
                F::Q8_0 => self.by_tiles::<S, Coded<{ F::Q8_0 as usize }, H>>(s, pair),
                // Two scales of weights need two of activations (see `Matrix`).
                F::Q6K => self.by_tiles::<S, Coded<{ F::Q6K as usize }, 2>>(s, pair),
            },
            Format::Whole(_) => unreachable!("whole weights have a product of their own"),
        }
    }

    #[inline(always)]
    fn by_tiles<S: Simd, W: Weights>(&self, s: S, weights: &'a [u8]) {
        match self.pair.n_tiles {
            1 => self.each_group::<S, W, 1>(s, weights),
            _ => self.each_group::<S, W, 2>(s, weights),
        }
    }
}

impl<'a> PairProduct<'a> {
    /// Covers the columns with groups of six, four, two and single ones. Six are for machines with registers for all their
    /// sums; four are the most of the others; where there is no tier for the machine, they are single.
    #[inline(always)]
    fn each_group<S: Simd, W: Weights, const T: usize>(&self, s: S, weights: &'a [u8]) {
        let (mut column, end) = (self.columns.start, self.columns.end);
        while column < end {
            column += match end - column {
                N_TOGETHER.. if S::IS_WIDE => self.group::<S, W, T, 6>(s, weights, column),
                4.. if S::TAKES_SEVERAL => self.group::<S, W, T, 4>(s, weights, column),
                2.. if S::TAKES_SEVERAL => self.group::<S, W, T, 2>(s, weights, column),
                _ => self.group::<S, W, T, 1>(s, weights, column),
            };
        }
    }

    /// Computes `C` columns and returns their number.
    #[inline(always)]
    fn group<S: Simd, W: Weights, const T: usize, const C: usize>(
        &self,
        s: S,
        weights: &'a [u8],
        column: usize,
    ) -> usize {
        // A kernel of its own, so that its registers are allotted for it alone.
        s.run(Group::<W, T, C> {
            task: self.task,
            pair: self.pair.clone(),
            weights,
            format: PhantomData,
            column,
            fetching: match self.columns.len() {
                1 => Fetching::Nothing,
                len if len == C => Fetching::Near,
                len => {
                    let of = len.min(N_FETCHING);
                    let done = column - self.columns.start;
                    let sixteenths = |column: usize| 16 * column.min(of) / of;
                    Fetching::Later(sixteenths(done)..sixteenths(done + C), self.upcoming)
                }
            },
        });
        C
    }
}

/// `T` tiles times `C` columns from `column` on.
struct Group<'a, W, const T: usize, const C: usize> {
    task: &'a Task<'a>,
    pair: TilePair<'a>,
    /// Both tiles of the pair.
    weights: &'a [u8],
    format: PhantomData<W>,
    column: usize,
    fetching: Fetching<'a>,
}

/// What is fetched while a group is computed.
#[derive(Clone)]
enum Fetching<'a> {
    /// Nothing: the machine does it.
    Nothing,
    /// What is multiplied soon, by the same columns.
    Near,
    /// Some sixteenths of the next pair, for which there is time until all columns are done, and what attention will read.
    Later(Range<usize>, &'a Upcoming),
}

impl Fetching<'_> {
    /// Fetches what there is to fetch while `weights`, a part of a pair of `pair_len` bytes, are multiplied.
    #[inline(always)]
    fn run(&self, weights: &[u8], pair_len: usize) {
        match self {
            Fetching::Nothing => {}
            Fetching::Near => fetch(weights, N_AHEAD),
            Fetching::Later(part, upcoming) => {
                // As many lines a column, so that no group asks for more than comes meanwhile.
                let line_at = |sixteenths| weights.len() / LINE * sixteenths / 16 * LINE;
                fetch(&weights[line_at(part.start)..line_at(part.end)], pair_len);
                upcoming.fetch();
            }
        }
    }
}

impl<'a, W: Weights, const T: usize, const C: usize> Group<'a, W, T, C> {
    /// The product, one tile after the other: there are registers for the sums of one.
    #[inline(always)]
    fn by_tile<S: Simd>(&self, s: S) -> [[S::F; C]; T] {
        let mut sums = [[s.splat(0.0); C]; T];
        for (t, sums) in sums.iter_mut().enumerate() {
            let tile = Group::<'a, W, 1, C> {
                task: self.task,
                pair: TilePair {
                    first: self.pair.first + t,
                    ..self.pair.clone()
                },
                weights: self.weights,
                format: PhantomData,
                column: self.column,
                fetching: if t == 0 {
                    self.fetching.clone()
                } else {
                    Fetching::Nothing
                },
            };
            [*sums] = W::product::<S, 1, C>(s, &tile);
        }
        sums
    }
}

impl<W: Weights, const T: usize, const C: usize> Kernel for Group<'_, W, T, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for column in self.column..self.column + C {
            self.task.expect::<T>(&self.pair, column);
        }
        let sums = if S::IS_WIDE || C <= N_BY_PAIR {
            W::product::<S, T, C>(s, &self)
        } else {
            self.by_tile(s)
        };
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
trait Weights: Sized {
    /// The product of a group.
    fn product<S: Simd, const T: usize, const C: usize>(
        s: S,
        group: &Group<'_, Self, T, C>,
    ) -> [[S::F; C]; T];
}

/// Asks for the weights that lie some bytes after these.
#[inline(always)]
fn fetch(block: &[u8], n_ahead: usize) {
    for line in block.as_chunks::<LINE>().0 {
        simd::prefetch(line.as_ptr().wrapping_add(n_ahead));
    }
}
