//! Durations and their percentiles.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind, in microseconds: 24 bits of each, so that ten million take 40 MB.
#[derive(Debug, Clone, Default)]
pub struct Timings(Vec<f32>);

impl Timings {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push((duration.as_secs_f64() * 1e6) as f32);
    }

    /// Their percentiles; none without a sample.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut ordered = self.0.clone();
        ordered.sort_unstable_by(f32::total_cmp);
        let max = *ordered.last()?;
        let n = ordered.len();
        // The nearest rank: the smallest sample that is no less than so many in ten thousand of all.
        let at = |share: usize| f64::from(ordered[(share * n).div_ceil(10_000).max(1) - 1]);
        Some(Percentiles {
            n,
            p50: at(5_000),
            p95: at(9_500),
            p99: at(9_900),
            p999: at(9_990),
            max: f64::from(max),
            mean: ordered.iter().map(|&sample| f64::from(sample)).sum::<f64>() / n as f64,
        })
    }
}

/// Percentiles by nearest rank, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// Samples.
    pub n: usize,
    /// Half are no more than this.
    pub p50: f64,
    /// 95 in a hundred.
    pub p95: f64,
    /// 99 in a hundred.
    pub p99: f64,
    /// 999 in a thousand.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
}

impl Percentiles {
    /// As JSON, to the nanosecond.
    pub fn to_json(&self) -> Value {
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        json!({
            "n": self.n,
            "p50": rounded(self.p50),
            "p95": rounded(self.p95),
            "p99": rounded(self.p99),
            "p999": rounded(self.p999),
            "max": rounded(self.max),
            "mean": rounded(self.mean),
        })
    }
}

#[cfg(test)]
mod tests;
