//! `select`: a choice among given texts, by the model's own log-probabilities.
//!
//! An option's score is the sum of the log-probabilities of its tokens after the context. Where the choice ends the
//! model's turn, the token that ends the turn is scored with it, so that `yes` is told from `yes, but`. Shares are the
//! softmax of the scores; the mass is the sum of the options' probabilities, each counted once.

use std::sync::Arc;

use lmrun_lang::ast::{Select, Span};
use serde_json::{Map, Value};

use crate::backend::TokenId;
use crate::dry_run;
use crate::envelope::{ErrorKind, GenRecord};
use crate::gen_options::Heal;
use crate::machine::{Machine, Outcome};
use crate::value;

/// The most options of one choice.
const MAX_CHOICES: usize = 1_000;

/// How options are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// The log-probability of the whole option.
    Sum,
    /// The mean over its tokens, which does not favour short options.
    Mean,
    /// Token by token, the most probable that is still on an option.
    Greedy,
}

impl Method {
    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("sum") => Ok(Self::Sum),
            Some("mean") => Ok(Self::Mean),
            Some("greedy") => Ok(Self::Greedy),
            _ => Err(format!(
                "`method` is \"sum\", \"mean\" or \"greedy\", given {}",
                value::brief(value)
            )),
        }
    }
}

/// The options with their tokens and, once asked for, the tokens' log-probabilities.
struct Scored {
    /// The end of the turn among them, where it is scored. [n_options][n_tokens]
    tokens: Vec<Vec<TokenId>>,
    /// [n_options][n_tokens]
    logprobs: Vec<Vec<f32>>,
}

impl Machine {
    /// Runs a `select`: the chosen option's tokens join the context, its name is bound.
    pub(crate) async fn select(&mut self, select: &Select, span: Span) -> Outcome<Value> {
        if !self.context.takes_text() {
            let message = "a choice stands outside a turn: put it under a role";
            return Err(self.fault(ErrorKind::Check, span, message));
        }
        let choices = self.choices(select).await?;
        let (mut method, mut heal) = (Method::Sum, self.shared.defaults.heal);
        for option in &select.options {
            let value = self.eval(&option.value).await?;
            let set = match option.name.text.as_str() {
                "method" => Method::read(&value).map(|read| method = read),
                "heal" => Heal::read(&value).map(|read| heal = read),
                other => Err(format!("`select` has no option `{other}`")),
            };
            set.map_err(|message| self.fault(ErrorKind::Check, option.name.span, message))?;
        }
        let name = select.name.as_ref().map(|name| name.text.as_str());
        self.context.flush(self.shared.backend.tokens());
        self.require_prompt(span)?;
        let texts: Vec<String> = choices.iter().map(value::text).collect();
        let scored = if self.shared.options.dry_run {
            self.tell_prompt(name, span);
            let encode = |text: &String| self.shared.backend.tokens().encode(text);
            let tokens: Vec<Vec<TokenId>> = texts.iter().map(encode).collect();
            let logprobs = tokens
                .iter()
                .map(|tokens| vec![0.0; tokens.len()])
                .collect();
            Scored { tokens, logprobs }
        } else {
            self.score(name, &texts, heal, span).await?
        };
        let record = self.choose(choices, &texts, &scored, method);
        self.tell_text(name, &record.text, span);
        let value = record.value.clone();
        self.record(name, span, record);
        Ok(value)
    }

    /// The options: distinct texts, none empty.
    async fn choices(&mut self, select: &Select) -> Outcome<Vec<Value>> {
        let choices = self.items(&select.choices).await?;
        let given = choices.len();
        let wrong = if given == 0 || given > MAX_CHOICES {
            Some(format!(
                "a choice takes 1 to {MAX_CHOICES} options, given {given}"
            ))
        } else {
            let mut texts = std::collections::HashSet::new();
            choices.iter().find_map(|choice| match choice {
                Value::Array(_) | Value::Object(_) | Value::Null => Some(format!(
                    "an option must be a text or a number, this is {}",
                    value::kind(choice)
                )),
                choice if value::text(choice).is_empty() => Some("an option is empty".to_owned()),
                choice if !texts.insert(value::text(choice)) => Some(format!(
                    "the option {} is given twice",
                    value::brief(choice)
                )),
                _ => None,
            })
        };
        match wrong {
            None => Ok(choices),
            Some(message) => Err(self.no_value(select.choices.span, message)),
        }
    }

    /// Scores every option over the one context.
    async fn score(
        &mut self,
        name: Option<&str>,
        texts: &[String],
        heal: Heal,
        span: Span,
    ) -> Outcome<Scored> {
        let backend = Arc::clone(&self.shared.backend);
        let end = match self.shared.ends.contains(&span) {
            true => self.context.end_of_turn(backend.as_ref()),
            false => None,
        };
        let healed = self.heal(heal, &[]);
        let tokens: Vec<Vec<TokenId>> = texts
            .iter()
            .map(|text| {
                let mut tokens = backend.tokens().encode(&format!("{healed}{text}"));
                tokens.extend(end);
                tokens
            })
            .collect();
        let (logprobs, cost) = backend
            .score(self.prompt(name, &healed), tokens.clone())
            .await
            .map_err(|error| self.backend_fault(&error, false, span))?;
        self.pay(cost);
        let fits = logprobs.len() == tokens.len()
            && logprobs
                .iter()
                .zip(&tokens)
                .all(|(scores, tokens)| scores.len() == tokens.len());
        if !fits {
            let message = "the backend scored other tokens than it was asked to";
            return Err(self.fault(ErrorKind::Backend, span, message));
        }
        Ok(Scored { tokens, logprobs })
    }

    /// Picks the winner and appends it.
    fn choose(
        &mut self,
        mut choices: Vec<Value>,
        texts: &[String],
        scored: &Scored,
        method: Method,
    ) -> GenRecord {
        let sums: Vec<f64> = scored
            .logprobs
            .iter()
            .map(|logprobs| sum(logprobs))
            .collect();
        let scores = match method {
            Method::Mean => {
                let lengths = scored.tokens.iter().map(Vec::len);
                sums.iter()
                    .zip(lengths)
                    .map(|(sum, n)| sum / n.max(1) as f64)
                    .collect()
            }
            Method::Sum | Method::Greedy => sums.clone(),
        };
        let chosen = match method {
            Method::Greedy => descend(scored),
            Method::Sum | Method::Mean => largest(&scores),
        };
        let shares = softmax(&scores);
        let scores: Map<String, Value> = texts
            .iter()
            .cloned()
            .zip(shares.into_iter().map(Value::from))
            .collect();
        let backend = Arc::clone(&self.shared.backend);
        let mut tokens = scored.tokens[chosen].clone();
        if tokens
            .last()
            .is_some_and(|&last| backend.tokens().is_end(last))
        {
            tokens.pop();
        }
        self.context.push_tokens(&tokens);
        let dry = self.shared.options.dry_run;
        GenRecord {
            value: choices.swap_remove(chosen),
            text: texts[chosen].clone(),
            tokens: tokens.len(),
            logprob: sums[chosen],
            finish: if dry { dry_run::FINISH } else { "select" },
            scores: Some(scores),
            mass: Some(sums.iter().map(|sum| sum.exp()).sum::<f64>().min(1.0)),
        }
    }
}

fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|&logprob| f64::from(logprob)).sum()
}

/// The first of the largest.
fn largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (idx, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = idx;
        }
    }
    best
}

/// Shares that sum to 1, from scores in any range.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        return vec![1.0 / scores.len() as f64; scores.len()];
    }
    let powers: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

/// Walks the options' tokens from the start, each time to the most probable next token; an option that ends where
/// others go on is chosen only if it ends with the turn's end token, or is the only one left.
fn descend(scored: &Scored) -> usize {
    let mut left: Vec<usize> = (0..scored.tokens.len()).collect();
    let mut depth = 0;
    while left.len() > 1 {
        let open: Vec<usize> = left
            .iter()
            .copied()
            .filter(|&idx| scored.tokens[idx].len() > depth)
            .collect();
        let logprob = |idx: usize| scored.logprobs[idx][depth];
        let Some(&first) = open.first() else { break };
        let best = open.iter().skip(1).fold(first, |best, &idx| {
            if logprob(idx) > logprob(best) {
                idx
            } else {
                best
            }
        });
        let token = scored.tokens[best][depth];
        left = open
            .into_iter()
            .filter(|&idx| scored.tokens[idx][depth] == token)
            .collect();
        depth += 1;
    }
    left.first().copied().unwrap_or_default()
}
