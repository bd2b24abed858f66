//! Random outputs of schemas: each comes to an end that an independent validator finds valid.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use lmrun::grammar_suite::{FREE_TOKENS, Random, walk};
use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Limits, Matcher, NumberSpelling, Whitespace,
};
use serde_json::Value;

use crate::support::constraints::{own_schemas, schemas_of_data, vocabulary};
use crate::support::parallel;

/// Characters that are told of what a walk came to.
const MAX_SAID: usize = 2_000;

/// How a walk can fail to be an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// It ends, and the validator refuses it.
    Invalid,
    /// It comes to a place where nothing may follow: what is judged when a value is whole was not met, and no token gives
    /// another value.
    DeadEnd,
    /// It passes a limit.
    Limit,
    /// Anything else.
    Error,
}

/// What walking schemas came to.
#[derive(Debug, Default)]
struct Walks {
    n_schemas: usize,
    n_walked: usize,
    n_refused: usize,
    n_without_oracle: usize,
    /// By schema: how many of its walks, and what the first of these came to.
    troubles: BTreeMap<Trouble, BTreeMap<String, (usize, String)>>,
}

impl Walks {
    /// So many walks of each schema in the strictest spelling, and as many in the freest.
    fn of(schemas: &[(String, Value)], n_walks: usize, seed: u64) -> Self {
        let walk = |idx: usize| {
            let (name, schema) = &schemas[idx];
            let mut walks = Self::default();
            walks.take(name, schema, n_walks, &mut Random::new(seed + idx as u64));
            walks
        };
        let mut all = Self::default();
        for walks in parallel::each(schemas.len(), walk) {
            all.n_schemas += walks.n_schemas;
            all.n_walked += walks.n_walked;
            all.n_refused += walks.n_refused;
            all.n_without_oracle += walks.n_without_oracle;
            for (trouble, schemas) in walks.troubles {
                all.troubles.entry(trouble).or_default().extend(schemas);
            }
        }
        all
    }

    fn take(&mut self, name: &str, schema: &Value, n_walks: usize, random: &mut Random) {
        self.n_schemas += 1;
        // Formats that the validator does not know, it does not look at.
        let oracle = jsonschema::options()
            .should_validate_formats(true)
            .build(schema);
        let Ok(oracle) = oracle else {
            self.n_without_oracle += 1;
            return;
        };
        let freest = JsonOptions {
            key_order: KeyOrder::Any,
            whitespace: Whitespace::Spaced,
            numbers: NumberSpelling::Any,
            ..JsonOptions::default()
        };
        for options in [JsonOptions::default(), freest] {
            match Constraint::json_schema_with(schema, &options, &Limits::default()) {
                Ok(constraint) => self.walk(name, &constraint, &oracle, n_walks, random),
                Err(_) => self.n_refused += 1,
            }
        }
    }

    fn walk(
        &mut self,
        name: &str,
        constraint: &Constraint,
        oracle: &Validator,
        n_walks: usize,
        random: &mut Random,
    ) {
        for _ in 0..n_walks {
            self.n_walked += 1;
            let walked = Matcher::new(constraint.clone(), Arc::clone(vocabulary())).and_then(
                |mut matcher| walk(&mut matcher, vocabulary(), FREE_TOKENS, None, random),
            );
            let trouble = match walked {
                Ok(bytes) => wrong(oracle, &bytes).map(|wrong| (Trouble::Invalid, wrong)),
                Err(error) => Some((kind(&error), error.to_string())),
            };
            if let Some((kind, said)) = trouble {
                let schemas = self.troubles.entry(kind).or_default();
                let (n, _) = schemas.entry(name.into()).or_insert((0, said));
                *n += 1;
            }
        }
    }

    fn n(&self, trouble: Trouble) -> usize {
        let schemas = self.troubles.get(&trouble).into_iter().flatten();
        schemas.map(|(_, (n, _))| n).sum()
    }
}

impl fmt::Display for Walks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} walks of {} schemas; {} compilations refused, {} schemas not understood by the validator",
            self.n_walked, self.n_schemas, self.n_refused, self.n_without_oracle
        )?;
        for (&trouble, schemas) in &self.troubles {
            let n = self.n(trouble);
            let share = 100.0 * n as f64 / self.n_walked as f64;
            write!(f, "\n{trouble:?}: {n} walks, {share:.2} %")?;
            for (name, (n, said)) in schemas {
                let said: String = said.chars().take(MAX_SAID).collect();
                write!(f, "\n{name}, {n} times: {said}")?;
            }
        }
        Ok(())
    }
}

fn kind(error: &GrammarError) -> Trouble {
    match error {
        // The last mask before a dead end may hold a token, and its shortest completion may not be one.
        GrammarError::NoToken | GrammarError::Budget { .. } => Trouble::DeadEnd,
        GrammarError::Limit { .. } => Trouble::Limit,
        _ => Trouble::Error,
    }
}

/// What is wrong with an output.
pub fn wrong(oracle: &Validator, output: &[u8]) -> Option<String> {
    let text = match str::from_utf8(output) {
        Ok(text) => text,
        Err(error) => return Some(format!("{error}: {output:?}")),
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(format!("{error}: {text}")),
    };
    let error = oracle.validate(&value).err()?;
    Some(format!("{error} at {}: {text}", error.instance_path()))
}

#[test]
fn walks_over_real_tokens_end_in_valid_instances() {
    let walks = Walks::of(&own_schemas(), 2, 1);
    assert!(walks.n_walked >= 150, "{walks}");
    assert!(walks.troubles.is_empty(), "{walks}");
}

/// See docs/constraints.md.
#[test]
#[ignore = "slow: twenty walks of each of a thousand schemas"]
fn walks_end_in_valid_instances() {
    let walks = Walks::of(&schemas_of_data(1_000), 10, 2);
    println!("{walks}");
    assert!(walks.n_walked >= 15_000, "{walks}");
    assert_eq!(walks.n(Trouble::Invalid) + walks.n(Trouble::Error), 0);
    assert!(100 * walks.n(Trouble::DeadEnd) < walks.n_walked);
    assert!(100 * walks.n(Trouble::Limit) < walks.n_walked);
}
