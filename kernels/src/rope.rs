//! Rotary position embedding (Su et al. 2021), shared by the devices of this crate.

use crate::{Heads, RopeLayout};

/// The cosines, then the sines, of one position, times `scale`: `[2 * n_frequencies]`.
///
/// The angle is taken in f64: at position 100,000 an f32 product is off by hundredths of a radian.
pub(crate) fn angles(frequencies: &[f32], scale: f32, position: u32, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(frequencies.len());
    for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
        let (s, c) = (f64::from(position) * f64::from(frequency)).sin_cos();
        (*cosine, *sine) = (c as f32 * scale, s as f32 * scale);
    }
}

/// Rotates the first elements of each head of one row by its angles, in place.
#[inline(always)]
pub(crate) fn rotate(row: &mut [f32], heads: Heads, layout: RopeLayout, angles: &[f32]) {
    let n_pairs = angles.len() / 2;
    let (cosines, sines) = angles.split_at(n_pairs);
    for head in row[heads.first..heads.end()].chunks_exact_mut(heads.head_dim) {
        let head = &mut head[..2 * n_pairs];
        match layout {
            RopeLayout::Interleaved => {
                let turns = cosines.iter().zip(sines);
                for (pair, (&c, &s)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    let [x, y] = *pair;
                    *pair = [x * c - y * s, x * s + y * c];
                }
            }
            RopeLayout::Halves => {
                let (first, second) = head.split_at_mut(n_pairs);
                let turns = cosines.iter().zip(sines);
                for ((a, b), (&c, &s)) in first.iter_mut().zip(second).zip(turns) {
                    let (x, y) = (*a, *b);
                    *a = x * c - y * s;
                    *b = x * s + y * c;
                }
            }
        }
    }
}
