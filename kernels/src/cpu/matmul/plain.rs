//! Products of plain weights: f32 and f16 with activations as they are, bf16 with activations rounded to bf16.

use super::super::matrix::PlainFormat;
use super::{Group, Task, Weights};
use crate::simd::Simd;

/// Bytes of a pair whose products come between one fetching and the next.
const N_BETWEEN: usize = 1024;

/// Weights of a plain format, and what they are multiplied by: in a step of a tile a lane has one weight of its row, or two.
trait Numbers {
    const FORMAT: PlainFormat;

    /// What a lane has of a column's activations in a step.
    type Inputs: Copy;
    /// Sixteen lanes of weights or of inputs.
    type Vector<S: Simd>: Copy;

    /// A column's inputs, one a step.
    fn column<'t>(task: &'t Task<'_>, column: usize) -> &'t [Self::Inputs];
    fn splat<S: Simd>(s: S, inputs: Self::Inputs) -> Self::Vector<S>;
    /// The weights that `bytes` begin with.
    fn load<S: Simd>(s: S, bytes: &[u8]) -> Self::Vector<S>;
    fn add_products<S: Simd>(
        s: S,
        sums: S::F,
        weights: Self::Vector<S>,
        inputs: Self::Vector<S>,
    ) -> S::F;
}

/// Weights of f32, or of f16 that are widened in registers.
pub(super) struct Floats<const ARE_HALVES: bool>;

/// Weights of bf16, two at a time.
pub(super) struct Bf16;

impl<const ARE_HALVES: bool> Numbers for Floats<ARE_HALVES> {
    const FORMAT: PlainFormat = if ARE_HALVES {
        PlainFormat::F16
    } else {
        PlainFormat::F32
    };
    type Inputs = f32;
    type Vector<S: Simd> = S::F;

    #[inline(always)]
    fn column<'t>(task: &'t Task<'_>, column: usize) -> &'t [f32] {
        task.plain_column(column)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, input: f32) -> S::F {
        s.splat(input)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::F {
        if ARE_HALVES {
            s.load_f16(first(bytes))
        } else {
            s.load_f32(first(bytes))
        }
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: S::F, weights: S::F, inputs: S::F) -> S::F {
        s.mul_add(weights, inputs, sums)
    }
}

impl Numbers for Bf16 {
    const FORMAT: PlainFormat = PlainFormat::Bf16;
    type Inputs = i32;
    type Vector<S: Simd> = S::I;

    #[inline(always)]
    fn column<'t>(task: &'t Task<'_>, column: usize) -> &'t [i32] {
        task.rounded_column(column)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, inputs: i32) -> S::I {
        s.splat_int(inputs)
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::I {
        s.load_bytes(first(bytes))
    }
    #[inline(always)]
    fn add_products<S: Simd>(s: S, sums: S::F, weights: S::I, inputs: S::I) -> S::F {
        s.dot2(sums, weights, inputs)
    }
}

impl<N: Numbers> Weights for N {
    /// The sums of all tiles and columns stay in registers; arrays are filled in loops, as in `blocks_product`.
    #[inline(always)]
    fn product<S: Simd, const T: usize, const C: usize>(
        s: S,
        group: &Group<'_, Self, T, C>,
    ) -> [[S::F; C]; T] {
        let tile_bytes = const { N::FORMAT.tile_bytes() };
        let n_steps = group.weights.len() / (2 * tile_bytes);
        let columns: [&[N::Inputs]; C] =
            std::array::from_fn(|c| &N::column(group.task, group.column + c)[..n_steps]);
        // Both tiles of a pair are at known places.
        let first = if T == 1 { group.pair.first } else { 0 };
        let mut sums = [[s.splat(0.0); C]; T];
        let mut step_idx = 0;
        for part in group.weights.chunks(N_BETWEEN) {
            group.fetching.run(part, group.weights.len());
            for step in part.chunks_exact(2 * tile_bytes) {
                let mut weights = [N::load(s, step); T];
                for (t, weights) in weights.iter_mut().enumerate() {
                    *weights = N::load(s, &step[(first + t) * tile_bytes..]);
                }
                for c in 0..C {
                    let inputs = N::splat(s, columns[c][step_idx]);
                    for t in 0..T {
                        sums[t][c] = N::add_products(s, sums[t][c], weights[t], inputs);
                    }
                }
                step_idx += 1;
            }
        }
        sums
    }
}

/// What the bytes of a step begin with.
#[inline(always)]
fn first<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("a step holds its tiles")
}
