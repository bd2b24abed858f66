//! Mutated schemas: each is compiled or refused, and followed, in time, within memory and without a panic.

use std::fmt;
use std::panic::catch_unwind;
use std::time::Duration;

use lmrun::grammar_suite::Random;
use lmrun_grammar::{Constraint, GrammarError, Limits};
use serde_json::Value;

use super::constraints::{listed, own_schemas, schemas_of_data};
use super::mutate::mutate;
use super::trial::Trial;

/// What mutated schemas came to.
#[derive(Debug, Default)]
struct Mutations {
    n_tried: usize,
    /// Those that the `jsonschema` crate understands: well-formed, and their references lead somewhere.
    n_understood: usize,
    /// Of these, the ones followed to the end of the trial, or rightly found to hold for nothing.
    n_supported: usize,
    /// Those, understood or not, that pass a limit.
    n_limited: usize,
    /// Those at a place where nothing may follow.
    n_dead_ends: usize,
    slowest: Duration,
    largest: u64,
    failures: Vec<String>,
}

impl Mutations {
    fn take(&mut self, name: &str, schema: &Value, random: &mut Random) {
        self.n_tried += 1;
        let trial = Trial::of(
            || Constraint::json_schema(schema, &Limits::default()),
            random,
        );
        self.slowest = self.slowest.max(trial.processor);
        self.largest = self.largest.max(trial.bytes);
        let wrong = trial.wrong().into_iter();
        self.failures
            .extend(wrong.map(|wrong| format!("{name}: {wrong}: {schema}")));
        let is_understood = is_understood(schema);
        self.n_understood += usize::from(is_understood);
        match trial.outcome {
            Some(Err(GrammarError::NoToken)) => self.n_dead_ends += 1,
            Some(Err(GrammarError::Limit { .. })) => self.n_limited += 1,
            Some(Err(GrammarError::Empty { .. }) | Ok(())) if is_understood => {
                self.n_supported += 1;
            }
            _ => {}
        }
    }

    fn check(&self) {
        assert!(self.failures.is_empty(), "{self}");
        // Were nearly all of them refused, nothing would have been tried.
        assert!(10 * self.n_understood >= self.n_tried, "{self}");
        assert!(10 * self.n_supported >= 9 * self.n_understood, "{self}");
        assert!(100 * self.n_limited <= self.n_tried, "{self}");
        assert!(100 * self.n_dead_ends <= self.n_tried, "{self}");
    }
}

impl fmt::Display for Mutations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} mutated schemas, {} understood by the validator, {} of these supported; {} beyond a limit, {} dead ends; \
             {:.1} ms and {:.1} MiB at most; {}",
            self.n_tried,
            self.n_understood,
            self.n_supported,
            self.n_limited,
            self.n_dead_ends,
            1e3 * self.slowest.as_secs_f64(),
            self.largest as f64 / f64::from(1 << 20),
            listed(&self.failures)
        )
    }
}

/// Whether another implementation finds the schema in order.
fn is_understood(schema: &Value) -> bool {
    // It panics at a `$schema` that it cannot find.
    catch_unwind(|| jsonschema::validator_for(schema).is_ok()).unwrap_or(false)
}

fn mutations(schemas: &[(String, Value)], n: usize) -> Mutations {
    let mut random = Random::new(3);
    let mut mutations = Mutations::default();
    for _ in 0..n {
        let (name, schema) = &schemas[random.below(schemas.len())];
        let mut schema = schema.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut schema, &mut random);
        }
        mutations.take(name, &schema, &mut random);
    }
    mutations
}

#[test]
fn mutated_schemas_are_answered() {
    mutations(&own_schemas(), 500).check();
}

#[test]
#[ignore = "slow: ten thousand mutated schemas"]
fn ten_thousand_mutated_schemas_are_answered() {
    let mutations = mutations(&schemas_of_data(2_000), 10_000);
    println!("{mutations}");
    mutations.check();
}
