//! Mutated schemas: each is compiled or refused, and followed, in time, within memory and without a panic.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lmrun::grammar_suite::Random;
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, TokenMask};
use serde_json::Value;

use super::Stopwatch;
use super::constraints::{listed, own_schemas, schemas_of_data, vocabulary};
use super::mutate::mutate;

/// Masks found of each schema.
const N_MASKS: usize = 20;
/// Processor time that a schema and its masks may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// Bytes that a schema and its masks may hold at once.
const MEMORY: u64 = 64 << 20;

/// Compiles and takes random tokens; a refusal of either is fine.
fn try_out(schema: &Value, random: &mut Random) -> Result<(), GrammarError> {
    let constraint = Constraint::json_schema(schema, &Limits::default())?;
    let mut matcher = Matcher::new(constraint, Arc::clone(vocabulary()))?;
    let mut mask = TokenMask::new(vocabulary().n_tokens());
    for _ in 0..N_MASKS {
        matcher.mask(&mut mask)?;
        let token = mask.iter().nth(random.below(mask.n_allowed()));
        let token = token.expect("an index below the count");
        if vocabulary().end_tokens().contains(&token) {
            break;
        }
        matcher.accept(token)?;
    }
    Ok(())
}

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
        let stopwatch = Stopwatch::start();
        let mut outcome = None;
        let memory = allocation_counter::measure(|| {
            outcome = Some(catch_unwind(AssertUnwindSafe(|| try_out(schema, random))));
        });
        let elapsed = stopwatch.elapsed();
        self.slowest = self.slowest.max(elapsed);
        self.largest = self.largest.max(memory.bytes_max);
        let mut fail = |wrong: &str| self.failures.push(format!("{name}: {wrong}: {schema}"));
        if elapsed > PATIENCE {
            fail(&format!("it takes {elapsed:?}"));
        }
        if memory.bytes_max > MEMORY {
            fail(&format!("it holds {} bytes", memory.bytes_max));
        }
        match outcome.expect("the trial was measured") {
            Err(_) => fail("it panics"),
            Ok(Err(error @ GrammarError::IllegalToken { .. })) => fail(&error.to_string()),
            Ok(Err(GrammarError::NoToken)) => self.n_dead_ends += 1,
            Ok(Err(GrammarError::Limit { .. })) => self.n_limited += 1,
            Ok(Err(GrammarError::Empty { .. }) | Ok(())) if is_understood(schema) => {
                self.n_supported += 1;
            }
            Ok(_) => {}
        }
        self.n_understood += usize::from(is_understood(schema));
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

/// Whether another implementation finds the schema in order. Some references make it overflow its stack, which no test
/// survives; they are not asked about.
fn is_understood(schema: &Value) -> bool {
    jsonschema::meta::is_valid(schema) && jsonschema::validator_for(schema).is_ok()
}

fn mutations(schemas: &[(String, Value)], n: usize) -> Mutations {
    let mut random = Random::new(3);
    let mut mutations = Mutations::default();
    // The masks that all constraints share are no schema's own cost.
    try_out(&Value::Bool(true), &mut random).expect("anything can be followed");
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
