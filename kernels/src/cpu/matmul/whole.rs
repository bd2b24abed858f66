//! Products of whole weights (see `matrix::whole`): sums of bytes over all inputs, on vectors or on a unit for squares.
//!
//! An output is `scale * (unit * (256 * high + low) + base * sum)`: high and low are sums of whole numbers, exact in any order, of what the high
//! and the low bytes of a column are multiplied by, its blocks' sums by minimums among them. So a column has the same bits alone as among others.
//!
//! To find the whole weights of a pair of four bits takes longer than to multiply them by sixteen columns. One or two columns (see `few`)
//! multiply them where they are found, in registers. For up to sixteen, weights are found one step ahead of the unit: it would wait for
//! what is still on its way to the cache. For more (see `turns`), all weights of some pairs are found first. Weights of eight bits are
//! multiplied where they lie.

mod few;
mod turns;

use std::ops::Range;

use super::super::matrix::whole::nibbles::{self, N_BLOCKS, N_LINES, Step};
use super::super::matrix::whole::{Scales, WholeFormat, bytes};
use super::super::quantise::split::{self, LINE_LANES, n_sum_lines};
use super::{N_AHEAD, Outputs, Task, TilePair, Upcoming, fetch};
use crate::aligned::Aligned;
use crate::lines::LINE;
use crate::simd::{LANES, Simd};
use crate::squares::{ByteStep, ByteSums, SQUARE, SetUp, Unit, UnitKernel, are_together};

/// Columns from which on the unit is faster than vectors.
const N_FOR_UNIT: usize = 3;
/// Steps that are found and not yet overwritten, where up to sixteen columns multiply them.
const N_KEPT: usize = 4;
/// The scale of high bytes.
const HIGH: f32 = 256.0;

/// Bytes of whole weights that stay in the second cache while columns pass over them.
const FOUND_BYTES: usize = 1 << 19;

/// Bytes of columns that stay in the second cache while all tiles pass over them, and how many columns that is at least and at most:
/// the more there are, the less often weights are found.
const RESIDENT_BYTES: usize = 3 << 19;
const N_RESIDENT: [usize; 2] = [96, 512];

/// Columns, whose planes have `n_lanes`, that all tiles pass over before others come.
pub(super) fn n_resident(n_lanes: usize) -> usize {
    let n = RESIDENT_BYTES / (2 * n_lanes * size_of::<i32>());
    (n / LANES * LANES).clamp(N_RESIDENT[0], N_RESIDENT[1])
}

/// Pairs of so many steps, at most `n_pairs`, that columns are multiplied by together.
pub(super) fn n_together(n_steps: usize, n_columns: usize, n_pairs: usize) -> usize {
    let n_found = FOUND_BYTES / (n_steps * 2 * SQUARE);
    if n_columns > LANES {
        n_found.clamp(1, n_pairs)
    } else {
        n_pairs
    }
}

/// What one thread finds in pairs, and its sums.
#[derive(Default)]
pub(crate) struct Found {
    weights: FoundWeights,
    /// Of this turn, and of the one before.
    sums: [ByteSums; 2],
}

/// Of four bits: of each step two squares, one of each tile; of minimums likewise, a line for each step.
#[derive(Default)]
struct FoundWeights(Aligned<u8>);

impl Found {
    /// Works on `n_pairs` at once, with the unit set up if these columns are enough for it.
    pub(super) fn work(
        &mut self,
        task: &Task<'_>,
        (n_pairs, n_columns): (usize, usize),
        work: impl FnOnce(&mut Self),
    ) {
        if n_columns < N_FOR_UNIT || !task.product.matrix.has_whole() {
            return work(self);
        }
        let n_squares = if n_columns > LANES {
            n_pairs * n_squares(task.n_steps())
        } else {
            N_KEPT + n_sum_lines(task.n_steps())
        };
        self.weights.0.resize(n_squares * 2 * SQUARE);
        let set_up = SetUp::Bytes { n_columns };
        task.vectors.set_up(set_up, || work(self));
    }
}

/// Squares of each tile of so many steps of four bits: a step's minimums are a line.
fn n_squares(n_steps: usize) -> usize {
    n_steps + n_sum_lines(n_steps)
}

impl FoundWeights {
    /// Finds the weights of a step and puts them in place `place`, and its minimums in line `line` of those from `minimums` on.
    #[inline(always)]
    fn find<U: Unit>(
        &mut self,
        (s, unit): (U::Vectors, U),
        step: Step<'_>,
        place: usize,
        (minimums, line): (usize, usize),
    ) {
        let (squares, _) = self.0.as_chunks_mut::<SQUARE>();
        for block in 0..N_BLOCKS {
            for which in 0..2 {
                fetch(step.part(N_BLOCKS * block + which, 2 * N_BLOCKS), N_AHEAD);
                let factors = unit.factors(step.factors(block, which));
                let (lines, _) = squares[2 * place + which].as_chunks_mut::<LINE>();
                for line_idx in 0..N_LINES {
                    let whole = unit.whole(step.line(block, line_idx, which), factors);
                    let first = 2 * N_LINES * block + line_idx;
                    unit.store(whole[0], &mut lines[first]);
                    unit.store(whole[1], &mut lines[first + N_LINES]);
                }
            }
        }
        for which in 0..2 {
            let square = &mut squares[2 * (minimums + line / LANES) + which];
            let (lines, _) = square.as_chunks_mut::<LINE>();
            unit.store(s.load_bytes(step.minimums(which)), &mut lines[line % LANES]);
        }
    }

    /// Finds all weights of a pair, as those of the pair `pair_idx`.
    #[inline(always)]
    fn find_pair<U: Unit>(
        &mut self,
        vectors: (U::Vectors, U),
        pair: WholePair<'_>,
        pair_idx: usize,
    ) {
        let first = pair_idx * pair.n_squares();
        let steps = nibbles::steps(pair.weights());
        for (idx, step) in steps.iter().enumerate() {
            let minimums = (first + steps.len(), idx);
            self.find(vectors, Step(step), first + idx, minimums);
        }
    }

    /// The squares of the pair `pair_idx` of so many.
    #[inline(always)]
    fn pair(&self, pair_idx: usize, n_squares: usize) -> &[[[u8; SQUARE]; 2]] {
        &self.squares()[pair_idx * n_squares..][..n_squares]
    }

    /// Two squares for each place.
    #[inline(always)]
    fn squares(&self) -> &[[[u8; SQUARE]; 2]] {
        self.0.as_chunks().0.as_chunks().0
    }
}

/// Some pairs of one format times some columns.
pub(super) struct WholeProduct<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) format: WholeFormat,
    pub(super) pairs: &'a [TilePair<'a>],
    pub(super) columns: Range<usize>,
    pub(super) upcoming: &'a Upcoming,
    pub(super) found: &'a mut Found,
}

/// One or two tiles of a pair of whole weights.
#[derive(Clone, Copy)]
struct WholePair<'a> {
    task: &'a Task<'a>,
    format: WholeFormat,
    tiles: &'a TilePair<'a>,
}

impl UnitKernel for WholeProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(mut self, s: U::Vectors, unit: U) {
        let n_columns = self.columns.len();
        if n_columns > LANES {
            return self.in_turns(s, unit);
        }
        for tiles in self.pairs {
            let pair = WholePair {
                task: self.task,
                format: self.format,
                tiles,
            };
            match n_columns {
                0..N_FOR_UNIT => pair.each_few(s, unit, self.columns.clone()),
                _ if are_together(n_columns) => self.at_once::<U, true>(s, unit, pair),
                _ => self.at_once::<U, false>(s, unit, pair),
            }
        }
    }
}

impl WholeProduct<'_> {
    /// Up to sixteen columns.
    #[inline(always)]
    fn at_once<U: Unit, const TOGETHER: bool>(
        &mut self,
        s: U::Vectors,
        unit: U,
        pair: WholePair<'_>,
    ) {
        let n_columns = self.columns.len();
        let due = Due::new(pair, self.columns.clone(), self.columns.start);
        due.expect(0..n_columns);
        // SAFETY: the unit has been set up for these columns, which are prepared.
        unsafe {
            unit.begin_sums::<TOGETHER>(&mut self.found.sums[0]);
            match self.format {
                WholeFormat::Nibbles => self.add_nibbles::<U, TOGETHER>(s, unit, pair),
                WholeFormat::Bytes => self.add_bytes::<U, TOGETHER>(unit, pair),
            }
            unit.end_sums::<TOGETHER>(&mut self.found.sums[0]);
        }
        due.finish::<_, TOGETHER>(s, 0..n_columns, &self.found.sums[0]);
    }

    /// Adds all products of a pair of four bits: a step is multiplied while the next one is found.
    ///
    /// # Safety
    /// The unit has been set up for these columns, which are prepared, and sums have been begun.
    #[inline(always)]
    unsafe fn add_nibbles<U: Unit, const TOGETHER: bool>(
        &mut self,
        s: U::Vectors,
        unit: U,
        pair: WholePair<'_>,
    ) {
        let Found {
            weights,
            sums: [sums, _],
        } = self.found;
        let planes = self.task.planes(self.columns.clone());
        let steps = nibbles::steps(pair.weights());
        let place_of = |idx: usize| match idx.checked_sub(steps.len()) {
            None => idx % N_KEPT,
            Some(line) => N_KEPT + line,
        };
        for idx in 0..=pair.n_squares() {
            if let Some(step) = steps.get(idx) {
                self.upcoming.fetch();
                weights.find((s, unit), Step(step), idx % N_KEPT, (N_KEPT, idx));
            }
            if let Some(idx) = idx.checked_sub(1) {
                let squares = &weights.squares()[place_of(idx)];
                // SAFETY: the caller says so.
                unsafe { unit.add_step::<TOGETHER>(pair.step(planes, idx, squares), sums) };
            }
        }
    }

    /// Adds all products of a pair of eight bits.
    ///
    /// # Safety
    /// As of [`Self::add_nibbles`].
    #[inline(always)]
    unsafe fn add_bytes<U: Unit, const TOGETHER: bool>(&mut self, unit: U, pair: WholePair<'_>) {
        let planes = self.task.planes(self.columns.clone());
        let sums = &mut self.found.sums[0];
        for (idx, squares) in bytes::steps(pair.weights()).iter().enumerate() {
            self.upcoming.fetch();
            fetch(squares.as_flattened(), N_AHEAD);
            // SAFETY: the caller says so.
            unsafe { unit.add_step::<TOGETHER>(pair.step(planes, idx, squares), sums) };
        }
    }
}

/// Columns and a pair whose outputs are due when the unit has summed them.
struct Due<'a> {
    pair: WholePair<'a>,
    /// The first column.
    first: usize,
    /// Columns whose outputs there are already.
    n_done: usize,
    /// What columns and rows are scaled by.
    wholes: &'a [split::Whole],
    scales: Scales<'a>,
    outputs: Option<Outputs<'a>>,
}

impl<'a> Due<'a> {
    /// Of some columns, those from `wanted` on.
    fn new(pair: WholePair<'a>, columns: Range<usize>, wanted: usize) -> Self {
        Self {
            pair,
            first: columns.start,
            n_done: wanted - columns.start,
            scales: Scales::of(pair.weights()),
            outputs: pair.task.outputs(pair.tiles, columns.start, columns.len()),
            wholes: pair.task.wholes(columns),
        }
    }

    /// Does what is to be done with the outputs of some of the columns, if they are wanted.
    #[inline(always)]
    fn finish<S: Simd, const TOGETHER: bool>(&self, s: S, idxs: Range<usize>, sums: &ByteSums) {
        for idx in idxs.start.max(self.n_done)..idxs.end {
            let planes = load_sums::<S, TOGETHER>(s, idx, sums);
            let Some(target) = &self.outputs else {
                self.pair.finish(s, self.first + idx, planes);
                continue;
            };
            let both = outputs(s, self.wholes[idx], self.scales, planes);
            // SAFETY: it is one of the columns, which are this thread's.
            unsafe { target.put(s, idx, both) };
        }
    }

    /// Asks for the lines that will be written.
    #[inline(always)]
    fn expect(&self, idxs: Range<usize>) {
        for idx in idxs {
            match &self.outputs {
                Some(outputs) => outputs.expect(idx),
                None => self.pair.expect(self.first + idx..self.first + idx + 1),
            }
        }
    }
}

impl<'a> WholePair<'a> {
    #[inline(always)]
    fn weights(&self) -> &'a [u8] {
        let n_cols = self.task.product.matrix.n_cols();
        self.tiles.pairs.weights(self.tiles.pair_idx, n_cols)
    }

    /// Squares of each tile.
    #[inline(always)]
    fn n_squares(&self) -> usize {
        let n_steps = self.task.n_steps();
        match self.format {
            WholeFormat::Nibbles => n_squares(n_steps),
            WholeFormat::Bytes => n_steps,
        }
    }

    /// Asks for the lines that will be written.
    #[inline(always)]
    fn expect(&self, columns: Range<usize>) {
        for column in columns {
            match self.tiles.n_tiles {
                1 => self.task.expect::<1>(self.tiles, column),
                _ => self.task.expect::<2>(self.tiles, column),
            }
        }
    }

    /// Asks for one of `n` parts of the pair that lies `n_pairs` behind this one.
    #[inline(always)]
    fn fetch_part(&self, idx: usize, n: usize, n_pairs: usize) {
        let weights = self.weights();
        let line_at = |idx: usize| weights.len() / LINE * idx / n * LINE;
        fetch(
            &weights[line_at(idx)..line_at(idx + 1)],
            n_pairs * weights.len(),
        );
    }

    /// A step of the columns with these planes, and its weights.
    #[inline(always)]
    fn step<'s>(
        &self,
        planes: &'s [i32],
        idx: usize,
        weights: &'s [[u8; SQUARE]; 2],
    ) -> ByteStep<'s> {
        ByteStep {
            planes: &planes[idx * LINE_LANES..],
            stride: self.task.n_split,
            weights,
        }
    }

    /// Makes outputs of both tiles' sums of high and of low bytes, and does what is to be done with them.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, column: usize, planes: [[S::I; 2]; 2]) {
        let scales = Scales::of(self.weights());
        let whole = self.task.wholes(column..column + 1)[0];
        let both = outputs(s, whole, scales, planes);
        match self.tiles.n_tiles {
            1 if self.tiles.first == 0 => self.task.put(s, self.tiles, column, [both[0]]),
            1 => self.task.put(s, self.tiles, column, [both[1]]),
            _ => self.task.put(s, self.tiles, column, both),
        }
    }
}

/// The sums of a column of a unit's: of high and of low bytes, of both tiles.
#[inline(always)]
fn load_sums<S: Simd, const TOGETHER: bool>(s: S, idx: usize, sums: &ByteSums) -> [[S::I; 2]; 2] {
    let mut planes = [[s.splat_int(0); 2]; 2];
    for (plane_idx, plane) in planes.iter_mut().enumerate() {
        for (t, tile) in plane.iter_mut().enumerate() {
            *tile = s.load_bytes(sums.line::<TOGETHER>(plane_idx, t, idx));
        }
    }
    planes
}

/// Makes outputs of both tiles' sums of high and of low bytes.
#[inline(always)]
fn outputs<S: Simd>(
    s: S,
    whole: split::Whole,
    scales: Scales<'_>,
    [high, low]: [[S::I; 2]; 2],
) -> [S::F; 2] {
    let (scale, total) = (s.splat(whole.scale), s.splat(whole.sum));
    let mut outputs = [scale; 2];
    for t in 0..2 {
        let sum = s.mul_add(s.to_f32(high[t]), s.splat(HIGH), s.to_f32(low[t]));
        let of_base = s.mul(s.load_f32(scales.bases[t]), total);
        let output = s.mul_add(sum, s.load_f32(scales.units[t]), of_base);
        outputs[t] = s.mul(output, scale);
    }
    outputs
}
