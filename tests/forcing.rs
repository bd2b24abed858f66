//! Constrained outputs of the real model: valid whatever the budget, and the same with forcing on and off.
//!
//! Two engines stand side by side, one of which takes every token in a step of its own. Each schema is compiled for each of
//! them apart, its prompt is in both caches, and they run in turns, so that their times can be compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lmrun_engine::{
    Engine, EngineOptions, Event, Finished, Generate, Handle, RequestError, TokenId, Work,
};
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher};
use serde_json::Value;

use crate::support::constraints::{listed, own_schemas, schemas_of_data, vocabulary};
use crate::support::engine::{encode, open, submit};
use crate::walks::wrong;

/// Characters of a schema that its prompt shows.
const N_SHOWN: usize = 600;
/// Tokens beyond the shortest output that a tight budget allows.
const N_SPARE: usize = 4;

/// What one generation came to.
struct Outcome {
    tokens: Vec<TokenId>,
    text: String,
    n_forced: usize,
    elapsed: Duration,
}

fn generate(
    handle: &Handle,
    prompt: &[TokenId],
    constraint: &Constraint,
    max_tokens: usize,
) -> Result<Outcome, RequestError> {
    let work = Generate {
        constraint: Some(constraint.clone()),
        max_tokens: Some(max_tokens),
        without_logprobs: true,
        ..Generate::default()
    };
    let start = Instant::now();
    let events = submit(handle, prompt.to_vec(), Work::Generate(Box::new(work)));
    let mut text = String::new();
    for event in events {
        match event {
            Event::Token(token) => text.push_str(&token.text),
            Event::Finished(Finished {
                text: rest,
                tokens,
                usage,
                ..
            }) => {
                return Ok(Outcome {
                    tokens,
                    text: text + &rest,
                    n_forced: usage.n_forced,
                    elapsed: start.elapsed(),
                });
            }
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    unreachable!("the last event ends a generation")
}

/// Two engines, and what they did.
struct Pair {
    forcing: Engine,
    plain: Engine,
    n_outputs: usize,
    n_refused: usize,
    n_tokens: usize,
    n_forced: usize,
    /// Of the outputs with the ample budget, with forcing and without.
    elapsed: [Duration; 2],
    failures: Vec<String>,
}

impl Pair {
    fn open() -> Self {
        let engine = |forcing| {
            open(&EngineOptions {
                forcing,
                kv_tokens: 16_384,
                ..EngineOptions::default()
            })
        };
        Self {
            forcing: engine(true),
            plain: engine(false),
            n_outputs: 0,
            n_refused: 0,
            n_tokens: 0,
            n_forced: 0,
            elapsed: [Duration::ZERO; 2],
            failures: Vec::new(),
        }
    }

    /// Generates by a schema with an ample budget, then with one that hardly holds the shortest output.
    fn take(&mut self, name: &str, schema: &Value, max_tokens: usize) {
        let oracle = jsonschema::options()
            .should_validate_formats(true)
            .build(schema);
        let compiled = || -> Result<(Constraint, usize), GrammarError> {
            let constraint = Constraint::json_schema(schema, &Limits::default())?;
            let matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary()));
            Ok((constraint, matcher?.min_tokens_to_accept()))
        };
        let (Ok(oracle), Ok((constraint, least)), Ok((other, _))) =
            (oracle, compiled(), compiled())
        else {
            self.n_refused += 1;
            return;
        };
        let shown: String = schema.to_string().chars().take(N_SHOWN).collect();
        let prompt = format!("A JSON schema:\n{shown}\nA JSON document that satisfies it:\n");
        let handles = [self.forcing.handle(), self.plain.handle()];
        let prompt = encode(&handles[0], &prompt);
        for handle in &handles {
            let published = submit(handle, prompt.clone(), Work::Publish);
            published.iter().for_each(drop);
        }
        for (budget, is_ample) in [(max_tokens.max(least), true), (least + N_SPARE, false)] {
            let mut outcomes = [None, None];
            // In turns, so that neither is always the first.
            for turn in 0..2 {
                let idx = (self.n_outputs / 2 + turn) % 2;
                let constraint = [&constraint, &other][idx];
                outcomes[idx] = Some(generate(&handles[idx], &prompt, constraint, budget));
            }
            self.n_outputs += 1;
            let [Some(Ok(forced)), Some(Ok(plain))] = &outcomes else {
                let errors = outcomes.iter().flatten().filter_map(|it| it.as_ref().err());
                let errors: Vec<String> = errors.map(ToString::to_string).collect();
                self.failures
                    .push(format!("{name}, {budget} tokens: {errors:?}"));
                continue;
            };
            if is_ample {
                self.n_tokens += forced.tokens.len();
                self.n_forced += forced.n_forced;
                self.elapsed[0] += forced.elapsed;
                self.elapsed[1] += plain.elapsed;
            }
            let wrong = wrong(&oracle, forced.text.as_bytes());
            self.failures
                .extend(wrong.map(|wrong| format!("{name}, {budget} tokens: {wrong}")));
            if (&forced.tokens, &forced.text) != (&plain.tokens, &plain.text) {
                let texts = format!("{} or {}", forced.text, plain.text);
                self.failures
                    .push(format!("{name}, {budget} tokens: {texts}"));
            }
            if forced.tokens.len() > budget {
                let n_tokens = forced.tokens.len();
                self.failures
                    .push(format!("{name}: {n_tokens} of {budget} tokens"));
            }
        }
    }

    fn summary(&self) -> String {
        let [forced, plain] = self.elapsed.map(|elapsed| elapsed.as_secs_f64());
        let stats = [&self.forcing, &self.plain].map(|engine| engine.handle().stats());
        format!(
            "{} outputs, {} schemas refused; {} tokens in {} and {} steps, {:.1} % of them forced, {} planned and not chosen, {} rollbacks; {forced:.2} s with forcing, {plain:.2} s without: {:.1} % less; {}",
            self.n_outputs,
            self.n_refused,
            self.n_tokens,
            stats[0].n_steps,
            stats[1].n_steps,
            100.0 * self.n_forced as f64 / self.n_tokens.max(1) as f64,
            stats[0].n_unplanned_tokens,
            stats[0].n_rollbacks,
            100.0 * (1.0 - forced / plain),
            listed(&self.failures)
        )
    }
}

#[test]
fn outputs_are_valid_and_the_same_without_forcing() {
    let mut pair = Pair::open();
    let schemas = own_schemas();
    for (name, schema) in schemas.iter().step_by(schemas.len() / 10) {
        pair.take(name, schema, 48);
    }
    assert!(pair.n_outputs >= 16, "{}", pair.summary());
    assert!(pair.n_forced > 0, "{}", pair.summary());
    assert!(pair.failures.is_empty(), "{}", pair.summary());
}

/// See docs/constraints.md.
#[test]
#[ignore = "slow: four outputs of each of 200 schemas"]
fn outputs_of_maskbench_are_valid_and_the_same_without_forcing() {
    let mut pair = Pair::open();
    for (name, schema) in schemas_of_data(200) {
        pair.take(&name, &schema, 96);
    }
    println!("{}", pair.summary());
    assert!(pair.n_outputs > 0 && pair.failures.is_empty());
}
