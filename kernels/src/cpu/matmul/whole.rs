//! Products of whole weights (see `matrix::whole`): sums of bytes over all inputs, on vectors or on a unit for squares.
//!
//! An output is `scale * (unit * (256 * high + low) + base * sum)`: high and low are sums of whole numbers, exact in any order, of what the high
//! and the low bytes of a column are multiplied by, its blocks' sums by minimums among them. So a column has the same bits alone as among others.
//!
//! To find the whole weights of a pair takes longer than to multiply them by sixteen columns. One or two columns multiply them
//! where they are found, in registers. For up to sixteen, weights are found one step ahead of the unit: it would wait for
//! what is still on its way to the cache. For more (see `turns`), all weights of some pairs are found first.

mod turns;

use std::ops::Range;

use super::super::matrix::whole::{N_BLOCKS, N_LINES, Scales, Step, parts};
use super::super::quantise::split::{self, LINE_LANES, n_sum_lines};
use super::{N_AHEAD, Outputs, Task, TilePair, Upcoming, fetch};
use crate::aligned::Aligned;
use crate::lines::LINE;
use crate::simd::{LANES, Simd};
use crate::squares::{ByteStep, ByteSums, SQUARE, SetUp, Unit, UnitKernel, WithUnit, are_together};

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

/// Of each step two squares, one of each tile; of minimums likewise, a line for each step.
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

/// Squares of each tile of so many steps: a step's minimums are a line.
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

    /// The squares of some places.
    #[inline(always)]
    fn squares(&self, places: Range<usize>) -> &[[[u8; SQUARE]; 2]] {
        &self.0.as_chunks().0.as_chunks().0[places]
    }
}

/// Some pairs times some columns.
pub(super) struct WholeProduct<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) pairs: &'a [TilePair<'a>],
    pub(super) columns: Range<usize>,
    pub(super) upcoming: &'a Upcoming,
    pub(super) found: &'a mut Found,
}

/// One or two tiles of a pair of whole weights.
#[derive(Clone, Copy)]
struct WholePair<'a> {
    task: &'a Task<'a>,
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
            let task = self.task;
            let pair = WholePair { task, tiles };
            match n_columns {
                0..N_FOR_UNIT => pair.each_few(s, unit, self.columns.clone()),
                _ if are_together(n_columns) => self.at_once::<U, true>(s, unit, pair),
                _ => self.at_once::<U, false>(s, unit, pair),
            }
        }
    }
}

impl WholeProduct<'_> {
    /// Up to sixteen columns: a step is multiplied while the next one is found.
    #[inline(always)]
    fn at_once<U: Unit, const TOGETHER: bool>(
        &mut self,
        s: U::Vectors,
        unit: U,
        pair: WholePair<'_>,
    ) {
        let columns = self.columns.clone();
        let Found {
            weights,
            sums: [sums, _],
        } = self.found;
        let due = Due::new(pair, columns.clone(), columns.start);
        due.expect(0..columns.len());
        let planes = self.task.planes(columns.clone());
        let (steps, _) = parts(pair.weights());
        let n_squares = n_squares(steps.len());
        let place_of = |idx: usize| match idx.checked_sub(steps.len()) {
            None => idx % N_KEPT,
            Some(line) => N_KEPT + line,
        };
        // SAFETY: the unit has been set up for these columns, which are prepared.
        unsafe {
            unit.begin_sums::<TOGETHER>(sums);
            for idx in 0..=n_squares {
                if let Some(step) = steps.get(idx) {
                    self.upcoming.fetch();
                    weights.find((s, unit), Step(step), idx % N_KEPT, (N_KEPT, idx));
                }
                if let Some(idx) = idx.checked_sub(1) {
                    let place = place_of(idx);
                    let squares = &weights.squares(place..place + 1)[0];
                    unit.add_step::<TOGETHER>(pair.step(planes, idx, squares), sums);
                }
            }
            unit.end_sums::<TOGETHER>(sums);
        }
        due.finish::<_, TOGETHER>(s, 0..columns.len(), sums);
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
            scales: parts(pair.weights()).1,
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

    /// Computes columns on vectors, two together.
    #[inline(always)]
    fn each_few<U: Unit>(&self, s: U::Vectors, unit: U, columns: Range<usize>) {
        let mut column = columns.start;
        while column < columns.end {
            column += match columns.end - column {
                2.. => self.few::<U, 2>(s, unit, column),
                _ => self.few::<U, 1>(s, unit, column),
            };
        }
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

    /// Computes `C` columns on vectors, and returns their number.
    #[inline(always)]
    fn few<U: Unit, const C: usize>(&self, s: U::Vectors, unit: U, column: usize) -> usize {
        // A kernel of its own, so that its registers are allotted for it alone.
        let kernel = Few::<C> { pair: self, column };
        s.run(WithUnit {
            kernel,
            vectors: s,
            unit,
        });
        C
    }

    /// Makes outputs of both tiles' sums of high and of low bytes, and does what is to be done with them.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, column: usize, planes: [[S::I; 2]; 2]) {
        let (_, scales) = parts(self.weights());
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

/// A pair times `C` columns from `column` on.
struct Few<'a, const C: usize> {
    pair: &'a WholePair<'a>,
    column: usize,
}

impl<const C: usize> UnitKernel for Few<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run_with_unit<U: Unit>(self, s: U::Vectors, unit: U) {
        let (pair, task) = (self.pair, self.pair.task);
        pair.expect(self.column..self.column + C);
        let lanes = task.planes(self.column..self.column + C);
        let mut sums = [[[s.splat_int(0); 2]; 2]; C];
        let (steps, _) = parts(pair.weights());
        // Of each column and plane a line, and the lane of the step's minimums.
        let line_at = |c: usize, plane: usize, idx: usize| {
            let lane = (2 * c + plane) * task.n_split + idx * LINE_LANES;
            let line: &[i32; LINE_LANES] = lanes[lane..].first_chunk().expect("a plane's line");
            line
        };
        for (idx, step) in steps.iter().enumerate() {
            let step = Step(step);
            let mut inputs = [[&[0; LINE_LANES]; 2]; C];
            let mut block_sums = [[0; 2]; C];
            for c in 0..C {
                for plane in 0..2 {
                    inputs[c][plane] = line_at(c, plane, idx);
                    let of_steps = line_at(c, plane, steps.len() + idx / LINE_LANES);
                    block_sums[c][plane] = of_steps[idx % LINE_LANES];
                }
            }
            for block in 0..N_BLOCKS {
                fetch(step.part(block, N_BLOCKS), N_AHEAD);
                let factors = [
                    unit.factors(step.factors(block, 0)),
                    unit.factors(step.factors(block, 1)),
                ];
                for line_idx in 0..N_LINES {
                    for t in 0..2 {
                        let whole = unit.whole(step.line(block, line_idx, t), factors[t]);
                        for c in 0..C {
                            for plane in 0..2 {
                                let first = 2 * N_LINES * block + line_idx;
                                for (i, &whole) in whole.iter().enumerate() {
                                    let x = s.splat_int(inputs[c][plane][first + i * N_LINES]);
                                    sums[c][plane][t] = s.dot4(sums[c][plane][t], whole, x);
                                }
                            }
                        }
                    }
                }
            }
            let minimums = [
                s.load_bytes(step.minimums(0)),
                s.load_bytes(step.minimums(1)),
            ];
            for (sums, block_sums) in sums.iter_mut().zip(block_sums) {
                for (sums, x) in sums.iter_mut().zip(block_sums) {
                    for (sum, &minimums) in sums.iter_mut().zip(&minimums) {
                        *sum = s.dot4(*sum, minimums, s.splat_int(x));
                    }
                }
            }
        }
        for (c, sums) in sums.into_iter().enumerate() {
            pair.finish(s, self.column + c, sums);
        }
    }
}
