//! What came of the cases of a suite: counts, times, and the first names of everything that went wrong.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::{Percentiles, Timings, Verdict};

/// Names kept of each kind.
const N_FIRST: usize = 10;
/// Reasons of refusal shown to a person.
const N_REASONS: usize = 20;

/// Cases of one kind: how many, and of the first ones the names and what there is to say of them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Tally {
    n: usize,
    first: Vec<(String, String)>,
}

impl Tally {
    fn count(&mut self, name: &str, said: &str) {
        self.n += 1;
        if self.first.len() < N_FIRST {
            self.first.push((name.into(), said.into()));
        }
    }

    fn names(&self) -> Vec<&str> {
        self.first.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// `name: what there is to say`
    fn lines(&self) -> Vec<String> {
        let line = |(name, said): &(String, String)| format!("{name}: {said}");
        self.first.iter().map(line).collect()
    }
}

/// Counts and times. A case is counted once.
#[derive(Debug, Clone, Default)]
pub struct Report {
    n_passed: usize,
    over: Tally,
    under: Tally,
    errors: Tally,
    by_class: HashMap<String, Tally>,
    pub(super) mask: Timings,
    pub(super) compile: Timings,
}

impl Report {
    /// Counts a case.
    pub(super) fn count(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.n_passed += 1,
            Verdict::Over(said) => self.over.count(name, said),
            Verdict::Under(said) => self.under.count(name, said),
            Verdict::Error(said) => self.errors.count(name, said),
            Verdict::Refused(refusal) => {
                let tally = self.by_class.entry(refusal.class()).or_default();
                tally.count(name, &refusal.to_string());
            }
        }
    }

    /// Whether no answer was wrong: nothing over, nothing under, no error. A refusal is not wrong.
    pub fn is_sound(&self) -> bool {
        self.over.n + self.under.n + self.errors.n == 0
    }

    /// Cases in all.
    pub fn n_cases(&self) -> usize {
        self.n_passed + self.over.n + self.under.n + self.errors.n + self.n_refused()
    }

    fn n_refused(&self) -> usize {
        self.by_class.values().map(|tally| tally.n).sum()
    }

    /// Classes of refusals, the most frequent first.
    fn classes(&self) -> Vec<(&String, &Tally)> {
        let mut classes: Vec<_> = self.by_class.iter().collect();
        classes.sort_by_key(|(class, tally)| (std::cmp::Reverse(tally.n), *class));
        classes
    }

    /// As one JSON object; docs/constraints.md describes it.
    pub fn to_json(&self) -> Value {
        let percentiles = |timings: &Timings| timings.percentiles().map(|p| p.to_json());
        let by_reason: Map<String, Value> = self
            .classes()
            .into_iter()
            .map(|(class, tally)| (class.clone(), json!({"n": tally.n, "first": tally.names()})))
            .collect();
        json!({
            "schemas": self.n_cases(),
            "passed": self.n_passed,
            "over": self.over.n,
            "under": self.under.n,
            "refused": self.n_refused(),
            "errors": self.errors.n,
            "mask_us": percentiles(&self.mask),
            "compile_us": percentiles(&self.compile),
            "by_reason": by_reason,
            "first": {
                "over": self.over.names(),
                "under": self.under.names(),
                "errors": self.errors.lines(),
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:8} schemas", self.n_cases())?;
        writeln!(f, "{:8} passed", self.n_passed)?;
        for (name, tally) in [
            ("over-constrained", &self.over),
            ("under-constrained", &self.under),
            ("errors", &self.errors),
        ] {
            writeln!(f, "{:8} {name}", tally.n)?;
            for line in tally.lines() {
                writeln!(f, "{:10}{line}", "")?;
            }
        }
        writeln!(f, "{:8} refused", self.n_refused())?;
        let classes = self.classes();
        for (class, tally) in classes.iter().take(N_REASONS) {
            let example = tally.names().into_iter().next().unwrap_or_default();
            writeln!(f, "{:>10} {class} ({example})", tally.n)?;
        }
        if classes.len() > N_REASONS {
            writeln!(f, "{:>10} more reasons", classes.len() - N_REASONS)?;
        }
        for (name, timings) in [("masks", &self.mask), ("compiling", &self.compile)] {
            if let Some(percentiles) = timings.percentiles() {
                writeln!(f, "{name}, us: {percentiles}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mean {:.1}, p50 {:.1}, p95 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1} of {}",
            self.mean, self.p50, self.p95, self.p99, self.p999, self.max, self.n
        )
    }
}
