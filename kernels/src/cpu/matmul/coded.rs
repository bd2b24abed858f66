//! Products of quantised weights: codes and activations of eight bits, whole sums of which are scaled.

use super::super::matrix::BlockLayout;
use super::super::quantise::{Block, GROUPS};
use super::{Group, Weights};
use crate::lines::LINE;
use crate::simd::{self, Simd};
use crate::{BLOCK_LEN, BlockFormat};

/// A block of code once for each of some numbers, which are constants in it: what a step does is known when it is compiled.
macro_rules! unrolled {
    ($step:ident in [$($number:literal),*] $code:block) => {
        $({
            const $step: usize = $number;
            $code
        })*
    };
}

/// What dots of integers begin with, as bits: floats from 2^23 to 2^24 are whole numbers, whose bits count on by one.
const BEGINNING: f32 = simd::ROUND;
/// So a dot may be this large, and no code and activation make a larger one.
const _: () = assert!(BLOCK_LEN * 255 * 127 < 1 << 22);

/// Tiles in the layout of the format of number `FORMAT`, whose activations have `H` scales a block.
pub(super) struct Coded<const FORMAT: usize, const H: usize>;

impl<const FORMAT: usize, const H: usize> Coded<FORMAT, H> {
    const LAYOUT: BlockLayout = BlockLayout::of(BlockFormat::ALL[FORMAT]);
    /// The order in which the groups of a block are taken; sums of integers do not depend on it. Both nibbles of a line
    /// come one after the other, where they belong to one sum.
    const ORDER: [usize; GROUPS] = if H == 1 && Self::LAYOUT.coding.n_bits < 8 {
        [0, 4, 1, 5, 2, 6, 3, 7]
    } else {
        [0, 1, 2, 3, 4, 5, 6, 7]
    };

    /// What is still to be taken from codes that [`Simd::add_products`] has multiplied.
    const fn offset<S: Simd>() -> i32 {
        let coding = Self::LAYOUT.coding;
        coding.offset - if coding.n_bits == 8 { S::EXCESS } else { 0 }
    }

    /// The codes of one group of four inputs, of the sixteen rows of tile `which`.
    #[inline(always)]
    fn group<S: Simd>(s: S, block: &[u8], which: usize, group: usize) -> S::I {
        let layout = const { Self::LAYOUT };
        let (low_line, low_shift) = layout.low_bits(group);
        let low = s.load_bytes(line(block, layout.line_at(low_line, which)));
        let low = match (layout.coding.n_bits, low_shift) {
            (8, _) => low,
            (_, 0) => s.low_nibbles(low),
            _ => s.high_nibbles(low),
        };
        if !layout.has_high_bits() {
            return low;
        }
        let (high_line, high_shift) = layout.high_bits(group);
        let high = s.load_bytes(line(block, layout.line_at(high_line, which)));
        let mask = (1 << layout.coding.n_bits) - (1 << 4);
        s.or_shifted(low, high, 4 - high_shift as i32, mask)
    }
}

impl<const FORMAT: usize, const H: usize> Weights for Coded<FORMAT, H> {
    #[inline(always)]
    fn product<S: Simd, const T: usize, const C: usize>(
        s: S,
        group: &Group<'_, Self, T, C>,
    ) -> [[S::F; C]; T] {
        blocks_product(s, group)
    }
}

/// The product of quantised tiles: the sums of all tiles and columns stay in registers. Arrays are filled in loops: a
/// closure handed to `from_fn` would not be compiled for the tier.
#[inline(always)]
fn blocks_product<S: Simd, const FORMAT: usize, const H: usize, const T: usize, const C: usize>(
    s: S,
    group: &Group<'_, Coded<FORMAT, H>, T, C>,
) -> [[S::F; C]; T] {
    let mut sums = [[s.splat(0.0); C]; T];
    let layout = const { Coded::<FORMAT, H>::LAYOUT };
    let (task, n_bytes) = (group.task, layout.bytes());
    let columns: [&[Block]; C] =
        std::array::from_fn(|c| &task.column(group.column + c)[..task.n_blocks]);
    let pair = &group.weights[..task.n_blocks * n_bytes];
    // Both tiles of a pair are at known places; one is the first or the second, so that its lines lie within the block.
    let first = if T == 1 { group.pair.first.min(1) } else { 0 };
    for block_idx in 0..task.n_blocks {
        let block = &pair[block_idx * n_bytes..(block_idx + 1) * n_bytes];
        let blocks: [&Block; C] = std::array::from_fn(|c| &columns[c][block_idx]);
        group.fetching.run(block, pair.len());
        // All codes before the scales behind them: lines in ascending order are what the machine fetches best.
        let product = BlockProduct::<S, FORMAT, H, T, C> {
            s,
            block,
            first,
            columns: &blocks,
        };
        product.add_part::<0>(&mut sums);
        if H == 2 {
            product.add_part::<1>(&mut sums);
        }
        if layout.coding.has_minimum {
            for (t, sums) in sums.iter_mut().enumerate() {
                let minimums = halves(s, block, layout.minimums_at(first + t));
                for c in 0..C {
                    let total = s.splat(blocks[c].total);
                    sums[c] = s.mul_add(minimums, total, sums[c]);
                }
            }
        }
    }
    sums
}

/// A block of `T` tiles, of a pair's from the first on, times the same block of `C` columns.
struct BlockProduct<'a, S, const FORMAT: usize, const H: usize, const T: usize, const C: usize> {
    s: S,
    block: &'a [u8],
    first: usize,
    columns: &'a [&'a Block; C],
}

impl<S: Simd, const FORMAT: usize, const H: usize, const T: usize, const C: usize>
    BlockProduct<'_, S, FORMAT, H, T, C>
{
    const LAYOUT: BlockLayout = Coded::<FORMAT, H>::LAYOUT;
    /// Steps of four inputs that share a scale as activations.
    const N_STEPS: usize = GROUPS / H;

    /// Adds the products of one scale's part of the activations, scaled as weights and then as activations. A dot that began
    /// with the bits of [`BEGINNING`] is that float and the dot, so one fused multiply-add makes it a float of its own and scales it:
    /// scales of weights have eleven bits, so what is taken off is exact, and rounded is the scaled dot alone.
    #[inline(always)]
    fn add_part<const HALF: usize>(&self, sums: &mut [[S::F; C]; T]) {
        let (s, layout) = (self.s, const { Self::LAYOUT });
        let dots = self.dots::<HALF>();
        let scale_idx = if layout.coding.n_scales == 2 { HALF } else { 0 };
        for t in 0..T {
            let scales = halves(s, self.block, layout.scales_at(self.first + t, scale_idx));
            let beginning = s.mul(scales, s.splat(-BEGINNING));
            for c in 0..C {
                let scaled = s.mul_add(s.with_bits(dots[t][c]), scales, beginning);
                let scale = s.splat(self.columns[c].scales[HALF]);
                sums[t][c] = s.mul_add(scaled, scale, sums[t][c]);
            }
        }
    }

    /// The integer products of one scale's part, on top of the bits of [`BEGINNING`], one step of four inputs after another: the
    /// weights of a step are loaded once for all columns, its codes once for all tiles.
    #[inline(always)]
    fn dots<const HALF: usize>(&self) -> [[S::I; C]; T] {
        let s = self.s;
        let beginning = const { BEGINNING.to_bits().cast_signed() };
        let mut dots = [[s.splat_int(beginning); C]; T];
        let offset = const { Coded::<FORMAT, H>::offset::<S>() };
        if offset != 0 {
            for c in 0..C {
                let taken = self.columns[c].sums[HALF].wrapping_mul(offset);
                let start = s.splat_int(beginning.wrapping_sub(taken));
                for dots in &mut dots {
                    dots[c] = start;
                }
            }
        }
        let mut narrow = dots;
        unrolled!(STEP in [0, 1, 2, 3, 4, 5, 6, 7] {
            self.add_step::<HALF, STEP>(&mut dots, &mut narrow);
        });
        dots
    }

    /// One step of [`Self::dots`], if there are so many. Narrow sums are widened when they hold as many products as they can, or all.
    #[inline(always)]
    fn add_step<const HALF: usize, const STEP: usize>(
        &self,
        dots: &mut [[S::I; C]; T],
        narrow: &mut [[S::I; C]; T],
    ) {
        if STEP >= Self::N_STEPS {
            return;
        }
        let (s, n_bits) = (self.s, const { Self::LAYOUT.coding.n_bits });
        let n_narrow = S::n_narrow(n_bits).min(Self::N_STEPS);
        let group = const { Coded::<FORMAT, H>::ORDER[(HALF * Self::N_STEPS + STEP) % GROUPS] };
        let mut codes = [s.splat_int(0); T];
        for (t, codes) in codes.iter_mut().enumerate() {
            *codes = Coded::<FORMAT, H>::group(s, self.block, self.first + t, group);
        }
        for c in 0..C {
            let inputs = s.splat_int(self.columns[c].codes[group]);
            for t in 0..T {
                narrow[t][c] = if STEP.is_multiple_of(n_narrow) {
                    s.first_products(n_bits, dots[t][c], codes[t], inputs)
                } else {
                    s.add_products(n_bits, narrow[t][c], codes[t], inputs)
                };
                if STEP % n_narrow == n_narrow - 1 {
                    dots[t][c] = s.widen(dots[t][c], narrow[t][c]);
                }
            }
        }
    }
}

#[inline(always)]
fn line(block: &[u8], at: usize) -> &[u8; LINE] {
    block[at..].first_chunk().expect("a block holds its lines")
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
