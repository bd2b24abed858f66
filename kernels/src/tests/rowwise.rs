//! Row by row operations, and the vectors' own arithmetic.

use proptest::prelude::*;

use super::*;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Reference, RopeLayout};
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
    fn add_rms_norm(&mut self, width: usize, x: &[f32], delta: &[f32], weight: &[f32]) -> Vec<f32>;
    fn head_norm(&mut self, width: usize, x: &[f32], heads: Heads, weight: &[f32]) -> Vec<f32>;
    fn silu_mul(&mut self, width: usize, x: &[f32]) -> Vec<f32>;
    fn rope(&mut self, width: usize, x: &[f32], heads: Heads, layout: RopeLayout) -> Vec<f32>;
}

impl<D: Device<Buffer = Buffer>> RowOperations for D {
    fn add_rms_norm(&mut self, width: usize, x: &[f32], delta: &[f32], weight: &[f32]) -> Vec<f32> {
        let (mut x, mut out) = (buffer(width, x), self.buffer(width));
        let weight = self.vector(weight);
        Device::add_rms_norm(self, &mut x, &buffer(width, delta), &weight, 1e-5, &mut out);
        [self.read(&x), self.read(&out)].concat()
    }

    fn head_norm(&mut self, width: usize, x: &[f32], heads: Heads, weight: &[f32]) -> Vec<f32> {
        let mut x = buffer(width, x);
        let weight = self.vector(weight);
        Device::head_norm(self, &mut x, heads, &weight, 1e-6);
        self.read(&x)
    }

    fn silu_mul(&mut self, width: usize, x: &[f32]) -> Vec<f32> {
        let mut out = self.buffer(width);
        Device::silu_mul(self, &buffer(2 * width, x), &mut out);
        self.read(&out)
    }

    fn rope(&mut self, width: usize, x: &[f32], heads: Heads, layout: RopeLayout) -> Vec<f32> {
        let mut x = buffer(width, x);
        let frequencies: Vec<f32> = (0..heads.head_dim / 2)
            .map(|i| 0.9f32.powi(i as i32))
            .collect();
        let (frequencies, mut angles) = (self.vector(&frequencies), self.buffer(heads.head_dim));
        let positions: Vec<u32> = (0..x.n_rows() as u32).map(|row| 1000 * row).collect();
        self.rope_angles(&frequencies, &positions, &mut angles);
        Device::rope(self, &mut x, heads, layout, &angles);
        self.read(&x)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norms(width in 1..70usize, n_rows in 1..12usize, seed in values(3 * 70 * 12)) {
        let (x, rest) = seed.split_at(width * n_rows);
        let (delta, weight) = (&rest[..width * n_rows], &seed[seed.len() - width..]);
        let (expected, given) = on_all(|device| device.add_rms_norm(width, x, delta, weight));
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
        let (expected, given) = on_all(|device| device.silu_mul(width, x));
        for given in &given {
            prop_assert!(error(&expected, given) < 1e-6);
        }
        prop_assert!(given.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])));
    }

    #[test]
    fn rotations_keep_lengths_and_agree(n_rows in 1..10usize, x in values(10 * 40)) {
        let heads = Heads { first: 4, n_heads: 2, head_dim: 16 };
        let x = &x[..n_rows * 40];
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let (expected, given) = on_all(|device| device.rope(40, x, heads, layout));
            for given in &given {
                prop_assert_eq!(bits(&expected), bits(given));
            }
            let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
            for (after, before) in expected.chunks_exact(40).zip(x.chunks_exact(40)) {
                prop_assert!((length(after) - length(before)).abs() <= 1e-4 * length(before) + 1e-6);
            }
        }
    }

    #[test]
    fn exponentials(x in proptest::collection::vec(-90.0f32..=0.0, LANES)) {
        let x: [f32; LANES] = x.try_into().unwrap();
        let given = TIERS.map(|tier| crate::cpu::run_on(tier, Exp(x)));
        for lane in 0..LANES {
            let expected = f64::from(x[lane].max(-87.0)).exp();
            let off = (f64::from(given[0][lane]) - expected).abs() / expected;
            prop_assert!(off < 2.0 * f64::from(f32::EPSILON), "e^{} is off by {off}", x[lane]);
        }
        prop_assert_eq!(bits(&given[0]), bits(&given[1]));
        prop_assert_eq!(bits(&given[0]), bits(&given[2]));
    }
}

struct Exp([f32; LANES]);

impl Kernel for Exp {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        s.store(s.exp(s.load(&self.0)), &mut out);
        out
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
