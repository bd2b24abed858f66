//! The clock of a decode: when it starts and what it counts.

use std::time::{Duration, Instant};

use super::*;

/// Tokens every `period`, the first after `first`.
fn sequence(base: Instant, first: u64, period: u64, n: u64) -> Vec<Instant> {
    let at = |i| base + Duration::from_millis(first + i * period);
    (0..n).map(at).collect()
}

#[test]
fn the_clock_starts_with_the_last_first_token() {
    let base = Instant::now();
    // The first sequence writes from the start, the second begins after a second: 32 steps of both, a
    // tenth of a second each, are 20 tokens a second.
    let times = [
        sequence(base, 0, 100, 60),
        sequence(base, 1000, 100, 1 + N_STEPS as u64),
    ];
    let speed = decoded(&times).expect("enough tokens");
    assert!((speed - 20.0).abs() < 1e-6, "{speed}");
}

#[test]
fn too_few_tokens_are_no_figure() {
    let base = Instant::now();
    assert_eq!(decoded(&[sequence(base, 0, 10, N_STEPS as u64)]), None);
    assert_eq!(decoded(&[sequence(base, 0, 10, 60), Vec::new()]), None);
}
