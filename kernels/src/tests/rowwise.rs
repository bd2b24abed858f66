//! Row by row operations, and the threads that share them.

use proptest::prelude::*;

use super::*;
use crate::pool::Pool;
use crate::{Activation, Grain, MatrixData, MatrixPart, Norm, Reference, RopeLayout};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs one operation on the reference and on every tier.
fn on_all<F>(operation: F) -> (Vec<f32>, Vec<Vec<f32>>)
where
    F: Fn(&mut dyn RowOperations) -> Vec<f32>,
{
    let expected = operation(&mut Reference::new(1));
    let given = TIERS.map(|tier| operation(&mut Cpu::with_tier(2, tier)));
    (expected, given.into())
}

/// The row operations of a device, whatever its other types are.
trait RowOperations {
    fn rms_norm(&mut self, width: usize, x: &[f32], weight: &[f32]) -> Vec<f32>;
    fn head_norm(&mut self, width: usize, x: &[f32], heads: Heads, weight: &[f32]) -> Vec<f32>;
    fn norm_add(&mut self, width: usize, x: &[f32], weight: &[f32], out: &[f32]) -> Vec<f32>;
    fn scale(&mut self, width: usize, x: &[f32], factor: f32) -> Vec<f32>;
    fn softcap(&mut self, width: usize, x: &[f32], cap: f32) -> Vec<f32>;
    fn gate(&mut self, width: usize, x: &[f32], activation: Activation) -> Vec<f32>;
    fn rope(&mut self, x: &[f32], heads: Heads, layout: RopeLayout, turns: Turns) -> Vec<f32>;
}

/// How far a row of forty elements is rotated.
#[derive(Clone, Copy)]
struct Turns {
    n_rotated: usize,
    scale: f32,
}

impl<D: Device<Buffer = Buffer>> RowOperations for D {
    /// Through a matrix that changes nothing.
    fn rms_norm(&mut self, width: usize, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let weight = &self.vector(weight);
        let identity = identity(width);
        let matrix = self.matrix(width, &[part(width, &identity)], Grain::ThirtyTwo);
        let mut out = self.buffer(width);
        let norm = Norm { weight, eps: 1e-5 };
        self.matmul(
            &matrix.unwrap(),
            None,
            &buffer(width, x),
            Some(norm),
            &mut out,
        );
        self.read(&out)
    }

    fn head_norm(&mut self, width: usize, x: &[f32], heads: Heads, weight: &[f32]) -> Vec<f32> {
        let mut x = buffer(width, x);
        let weight = self.vector(weight);
        Device::head_norm(self, &mut x, heads, &weight, 1e-6);
        self.read(&x)
    }

    fn norm_add(&mut self, width: usize, x: &[f32], weight: &[f32], out: &[f32]) -> Vec<f32> {
        let weight = &self.vector(weight);
        let mut out = buffer(width, out);
        let norm = Norm { weight, eps: 1e-5 };
        Device::norm_add(self, &buffer(width, x), norm, &mut out);
        self.read(&out)
    }

    fn scale(&mut self, width: usize, x: &[f32], factor: f32) -> Vec<f32> {
        let mut x = buffer(width, x);
        Device::scale(self, &mut x, factor);
        self.read(&x)
    }

    fn softcap(&mut self, width: usize, x: &[f32], cap: f32) -> Vec<f32> {
        let mut x = buffer(width, x);
        Device::softcap(self, &mut x, cap);
        self.read(&x)
    }

    /// The first half of a row are gates, the second ups.
    fn gate(&mut self, width: usize, x: &[f32], activation: Activation) -> Vec<f32> {
        let identity = identity(2 * width);
        let (gate, up) = identity.split_at(2 * width * width);
        let parts = [part(width, gate), part(width, up)];
        let matrix = self.matrix(2 * width, &parts, Grain::ThirtyTwo).unwrap();
        let mut out = self.buffer(width);
        let x = buffer(2 * width, x);
        self.gated(&matrix, activation, &x, None, &mut out);
        self.read(&out)
    }

    fn rope(&mut self, x: &[f32], heads: Heads, layout: RopeLayout, turns: Turns) -> Vec<f32> {
        let mut x = buffer(40, x);
        let frequencies: Vec<f32> = (0..turns.n_rotated / 2)
            .map(|i| 0.9f32.powi(i as i32))
            .collect();
        let (frequencies, mut angles) = (self.vector(&frequencies), self.buffer(turns.n_rotated));
        let positions: Vec<u32> = (0..x.n_rows() as u32).map(|row| 1000 * row).collect();
        self.rope_angles(&frequencies, turns.scale, &positions, &mut angles);
        Device::rope(self, &mut x, heads, layout, &angles);
        self.read(&x)
    }
}

fn identity(n: usize) -> Vec<f32> {
    (0..n * n)
        .map(|i| if i / n == i % n { 1.0 } else { 0.0 })
        .collect()
}

fn part(n_rows: usize, values: &[f32]) -> MatrixPart<'_> {
    let data = MatrixData::F32(values);
    MatrixPart { n_rows, data }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norms(width in 1..70usize, n_rows in 1..12usize, seed in values(70 * 13)) {
        let (x, weight) = (&seed[..width * n_rows], &seed[seed.len() - width..]);
        let (expected, given) = on_all(|device| device.rms_norm(width, x, weight));
        for given in &given {
            prop_assert!(error(&expected, given) < 1e-5);
        }
        prop_assert!(given.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
    }

    #[test]
    fn norms_of_heads(n_rows in 1..10usize, x in values(10 * 40), weight in values(16)) {
        let heads = Heads { first: 5, n_heads: 2, head_dim: 16 };
        let x = &x[..n_rows * 40];
        let (expected, given) = on_all(|device| device.head_norm(40, x, heads, &weight));
        for given in &given {
            prop_assert!(error(&expected, given) < 1e-5);
            // Nothing outside the heads has moved.
            for (row, before) in given.chunks_exact(40).zip(x.chunks_exact(40)) {
                prop_assert_eq!(&row[..5], &before[..5]);
                prop_assert_eq!(&row[37..], &before[37..]);
            }
        }
    }

    #[test]
    fn activations(width in 1..50usize, n_rows in 1..12usize, x in values(2 * 50 * 12)) {
        let x = &x[..2 * width * n_rows];
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let (expected, given) = on_all(|device| device.gate(width, x, activation));
            for given in &given {
                prop_assert!(error(&expected, given) < 1e-6);
            }
            prop_assert!(given.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
        }
    }

    #[test]
    fn norms_added(width in 1..70usize, n_rows in 1..12usize, seed in values(2 * 70 * 12 + 70)) {
        let (x, rest) = seed.split_at(width * n_rows);
        let (out, weight) = (&rest[..width * n_rows], &seed[seed.len() - width..]);
        let (expected, given) = on_all(|device| device.norm_add(width, x, weight, out));
        for given in &given {
            prop_assert!(error(&expected, given) < 1e-5);
        }
        prop_assert!(given.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
    }

    #[test]
    fn scales_and_caps(width in 1..50usize, n_rows in 1..12usize, seed in values(50 * 12), by in 0.5f32..60.0) {
        let x = &seed[..width * n_rows];
        let (expected, given) = on_all(|device| device.scale(width, x, by));
        for given in &given {
            prop_assert_eq!(bits(&expected), bits(given));
        }
        let (expected, given) = on_all(|device| device.softcap(width, x, by));
        for given in &given {
            for (expected, given) in expected.iter().zip(given) {
                prop_assert!((expected - given).abs() <= 4.0 * f32::EPSILON * by, "{expected} {given}");
            }
        }
        prop_assert!(given.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
    }

    #[test]
    fn rotations_keep_lengths_and_agree(n_rows in 1..10usize, x in values(10 * 40)) {
        let heads = Heads { first: 4, n_heads: 2, head_dim: 16 };
        let x = &x[..n_rows * 40];
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let turns = Turns { n_rotated: 16, scale: 1.0 };
            let (expected, given) = on_all(|device| device.rope(x, heads, layout, turns));
            for given in &given {
                prop_assert_eq!(bits(&expected), bits(given));
            }
            let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
            for (after, before) in expected.chunks_exact(40).zip(x.chunks_exact(40)) {
                prop_assert!((length(after) - length(before)).abs() <= 1e-4 * length(before) + 1e-6);
            }
        }
    }

    /// What is not rotated is as it was; what is grows by the scale.
    #[test]
    fn rotations_of_parts(n_rows in 1..10usize, x in values(10 * 40)) {
        let heads = Heads { first: 4, n_heads: 2, head_dim: 16 };
        let x = &x[..n_rows * 40];
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let turns = Turns { n_rotated: 12, scale: 2.0 };
            let (expected, given) = on_all(|device| device.rope(x, heads, layout, turns));
            for given in &given {
                prop_assert_eq!(bits(&expected), bits(given));
            }
            let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
            for (after, before) in expected.chunks_exact(40).zip(x.chunks_exact(40)) {
                for kept in [0..4, 16..20, 32..40] {
                    prop_assert_eq!(&after[kept.clone()], &before[kept]);
                }
                for rotated in [4..16, 20..32] {
                    let (after, before) = (length(&after[rotated.clone()]), 4.0 * length(&before[rotated]));
                    prop_assert!((after - before).abs() <= 1e-4 * before + 1e-6);
                }
            }
        }
    }
}

/// Values of PyTorch's `silu` and `gelu(approximate="tanh")` in f64.
#[test]
fn gates_by_hand() {
    for (activation, expected) in [
        (
            Activation::Silu,
            [0.731_058_6, -0.268_941_4, 2.857_722_4, 0.0],
        ),
        (
            Activation::GeluTanh,
            [0.841_191_97, -0.158_808_02, 2.996_362_6, 0.0],
        ),
    ] {
        let x = [1.0, -1.0, 3.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let (reference, given) = on_all(|device| device.gate(4, &x, activation));
        for given in given.iter().chain([&reference]) {
            assert!(error(&expected, given) < 1e-6, "{activation:?}: {given:?}");
        }
    }
}

/// A rotation by a quarter turn, pair by pair, worked out by hand.
#[test]
fn rotation_pairs() {
    let heads = Heads {
        first: 0,
        n_heads: 1,
        head_dim: 4,
    };
    let angles = [0.0, 1.0, 1.0, 0.0]; // a quarter turn for pair 0, none for pair 1
    let mut row = [1.0, 2.0, 3.0, 4.0];
    crate::rope::rotate(&mut row, heads, RopeLayout::Interleaved, &angles);
    assert_eq!(row, [-2.0, 1.0, 3.0, 4.0]);
    let mut row = [1.0, 2.0, 3.0, 4.0];
    crate::rope::rotate(&mut row, heads, RopeLayout::Halves, &angles);
    assert_eq!(row, [-3.0, 2.0, 1.0, 4.0]);
}

#[test]
fn every_share_runs_once_in_every_section() {
    for n_threads in [1, 2, 5] {
        let mut pool = Pool::new(n_threads);
        for section in 0..2_000 {
            let counts: Vec<AtomicUsize> = (0..n_threads).map(|_| AtomicUsize::new(0)).collect();
            pool.run(&|thread_idx| {
                counts[thread_idx].fetch_add(1, Ordering::Relaxed);
            });
            for (thread_idx, count) in counts.iter().enumerate() {
                assert_eq!(
                    count.load(Ordering::Relaxed),
                    1,
                    "{thread_idx} in section {section}"
                );
            }
        }
    }
}

#[test]
fn a_panic_in_a_share_reaches_the_caller_and_leaves_the_pool_usable() {
    let mut pool = Pool::new(3);
    for panicking in 0..3 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|thread_idx| assert_ne!(thread_idx, panicking, "as planned"));
        }));
        assert!(outcome.is_err());
    }
    let count = AtomicUsize::new(0);
    pool.run(&|_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(count.into_inner(), 3);
}

#[test]
fn what_is_read_is_what_was_written_however_many_threads_copy_it() {
    let values: Vec<f32> = (0..200_001).map(|i| i as f32).collect();
    for (n_threads, len) in [(1, 200_001), (3, 200_001), (3, 7), (3, 0)] {
        let mut device = Cpu::new(n_threads);
        let mut x = device.buffer(1);
        device.write(&mut x, &values[..len]);
        assert_eq!(device.read(&x), values[..len], "{n_threads} threads");
    }
}
