//! Rotary position embedding (Su et al. 2021), shared by the devices of this crate.

use crate::{Heads, RopeLayout};

/// The cosines, then the sines, of one position: `[2 * n_frequencies]`.
///
/// The angle is taken in f64: at position 100,000 an f32 product is off by hundredths of a radian.
pub(crate) fn angles(frequencies: &[f32], position: u32, out: &mut [f32]) {
    let (cosines, sines) = out.split_at_mut(frequencies.len());
    for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
        let (s, c) = (f64::from(position) * f64::from(frequency)).sin_cos();
        (*cosine, *sine) = (c as f32, s as f32);
    }
}

/// Rotates the heads of one row by its angles, in place.
pub(crate) fn rotate(row: &mut [f32], heads: Heads, layout: RopeLayout, angles: &[f32]) {
    let n_pairs = heads.head_dim / 2;
    let (cosines, sines) = angles.split_at(n_pairs);
    for head in row[heads.first..heads.end()].chunks_exact_mut(heads.head_dim) {
        for pair_idx in 0..n_pairs {
            let (a, b) = match layout {
                RopeLayout::Interleaved => (2 * pair_idx, 2 * pair_idx + 1),
                RopeLayout::Halves => (pair_idx, pair_idx + n_pairs),
            };
            let (x, y) = (head[a], head[b]);
            let (c, s) = (cosines[pair_idx], sines[pair_idx]);
            head[a] = x * c - y * s;
            head[b] = x * s + y * c;
        }
    }
}
