//! What is measured, and the room it needs.

use std::fmt;

use crate::cli::{BenchEngineOptions, Branches};
use crate::failure::Failure;
use crate::output;

/// Tokens of each prompt before sequences are written side by side.
pub(super) const N_PROMPT: usize = 128;
/// Steps of decoding that are timed.
pub(super) const N_STEPS: usize = 32;
/// Prompts of sequences that begin before others are read a step each: so many steps are lost at most.
const N_STEPS_BEFORE: usize = 2;

const PREFILL: &[usize] = &[32, 512, 2048];
const DECODE: &[usize] = &[1, 2, 4, 8, 16, 32];
const CONTEXT: &[usize] = &[512, 1024, 2048, 4096];

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Reading a prompt of so many tokens.
    Prefill(usize),
    /// Writing so many sequences.
    Decode(usize),
    /// Writing one sequence after so many tokens.
    Context(usize),
    /// Writing sequences after the same tokens, which were read before.
    Shared(Branches),
    /// Writing as many after as many tokens of each one's own.
    Apart(Branches),
}

impl Point {
    /// Its number of tokens or sequences.
    pub(super) fn x(self) -> usize {
        match self {
            Point::Prefill(x) | Point::Decode(x) | Point::Context(x) => x,
            Point::Shared(branches) | Point::Apart(branches) => branches.n_sequences,
        }
    }

    /// Its numbers as they are asked for.
    pub(super) fn label(self) -> String {
        match self {
            Point::Prefill(x) | Point::Decode(x) | Point::Context(x) => x.to_string(),
            Point::Shared(branches) | Point::Apart(branches) => branches.to_string(),
        }
    }

    /// Whether its prompts are in the prefix cache before it is timed.
    pub(super) fn is_read_before(self) -> bool {
        matches!(self, Point::Shared(_) | Point::Apart(_))
    }

    /// Sequences, tokens of each one's prompt, and tokens that each writes at most.
    pub(super) fn shape(self) -> (usize, usize, usize) {
        match self {
            Point::Prefill(n_tokens) => (1, n_tokens, 1),
            // The first to begin write while the last are read.
            Point::Decode(n) => (n, N_PROMPT, 1 + N_STEPS + N_STEPS_BEFORE * n),
            Point::Context(n_tokens) => (1, n_tokens, 1 + N_STEPS),
            Point::Shared(branches) | Point::Apart(branches) => {
                let n = branches.n_sequences;
                let n_written = 1 + N_STEPS + N_STEPS_BEFORE * n;
                // One more token, by which each sequence is another.
                (n, branches.n_tokens.saturating_add(1), n_written)
            }
        }
    }

    fn option(self) -> &'static str {
        match self {
            Point::Prefill(_) => "--prefill",
            Point::Decode(_) => "--decode",
            Point::Context(_) => "--context",
            Point::Shared(_) | Point::Apart(_) => "--shared",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Prefill(n) => write!(formatter, "prefill of {n} tokens"),
            Point::Decode(1) => write!(formatter, "decode of 1 sequence"),
            Point::Decode(n) => write!(formatter, "decode of {n} sequences"),
            Point::Context(n) => write!(formatter, "decode after {n} tokens"),
            Point::Shared(Branches {
                n_sequences,
                n_tokens,
            }) => write!(formatter, "{n_sequences} after {n_tokens} shared"),
            Point::Apart(Branches {
                n_sequences,
                n_tokens,
            }) => write!(formatter, "{n_sequences} after {n_tokens} of their own"),
        }
    }
}

/// The figures, in the order in which they are measured.
#[derive(Debug)]
pub(super) struct Plan {
    points: Vec<Point>,
    /// Whether somebody asked for just these.
    is_asked: bool,
}

impl Plan {
    pub(super) fn new(options: &BenchEngineOptions) -> Self {
        let given = [&options.prefill, &options.decode, &options.context];
        let is_asked = given.iter().any(|list| !list.is_empty()) || !options.shared.is_empty();
        let lists = if is_asked {
            given.map(Vec::as_slice)
        } else {
            [PREFILL, DECODE, CONTEXT]
        };
        let mut points = Vec::new();
        let kinds = [Point::Prefill, Point::Decode, Point::Context];
        for (list, point) in lists.into_iter().zip(kinds) {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            points.extend(list.into_iter().map(point));
        }
        for &branches in &options.shared {
            points.extend([Point::Shared(branches), Point::Apart(branches)]);
        }
        Self { points, is_asked }
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Whether any figure needs the prefix cache.
    pub(super) fn needs_cache(&self) -> bool {
        self.points.iter().any(|point| point.is_read_before())
    }

    /// Tokens of KV memory that the largest figure takes; twice, since some are reserved for what may come.
    pub(super) fn kv_tokens(&self) -> usize {
        let tokens = |point: &Point| {
            let (n, n_prompt, n_written) = point.shape();
            n.saturating_mul(n_prompt.saturating_add(n_written))
        };
        let largest = self.points.iter().map(tokens).max().unwrap_or(1);
        largest.saturating_mul(2)
    }

    /// Sequences at once.
    pub(super) fn max_running(&self) -> usize {
        let numbers = self.points.iter().map(|point| point.shape().0);
        numbers.max().unwrap_or(1)
    }

    /// What fits a model of this context. What was asked for must fit; the rest is left out, and said so.
    pub(super) fn within(mut self, context_length: usize) -> Result<Self, Failure> {
        let needs = |point: &Point| point.shape().1.saturating_add(point.shape().2);
        let is_too_long = |point: &Point| needs(point) > context_length;
        if let Some(point) = self.points.iter().find(|point| is_too_long(point))
            && self.is_asked
        {
            let (option, x, n) = (point.option(), point.label(), needs(point));
            return Err(Failure::usage(format!(
                "{option} {x} takes sequences of {n} tokens, the model holds {context_length}"
            )));
        }
        for point in self.points.extract_if(.., |point| is_too_long(point)) {
            output::say(format_args!(
                "left out: {point}, the model holds {context_length}"
            ));
        }
        Ok(self)
    }
}
