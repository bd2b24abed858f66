//! What a run tells while it goes: one event for each thing that happened, with its branch and its place.
//!
//! A *branch* is a path of child numbers from the root, which is `0`: `0.2` is the third child of the root, and the
//! calls of functions are children as fork branches are.

use lmrun_lang::ast::Span;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::envelope::RunError;

/// Half-open byte offsets into the source text; serialises as `{start, end}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub Span);

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            start: usize,
            end: usize,
        }
        Fields {
            start: self.0.start,
            end: self.0.end,
        }
        .serialize(serializer)
    }
}

/// One thing that happened. Serialises with the tag `event`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Text that a generation or a choice added, as soon as it is known.
    Text {
        /// Where it runs.
        branch: String,
        /// The generation.
        span: Place,
        /// The generation's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Whole characters.
        text: String,
    },
    /// A token that a generation sampled.
    Token {
        /// Where it runs.
        branch: String,
        /// The generation.
        span: Place,
        /// The token's id in the model's vocabulary.
        id: u32,
        /// The text that became complete with it.
        text: String,
        /// Natural logarithm of its probability.
        logprob: f32,
        /// Whether no other token was legal.
        forced: bool,
        /// The most probable alternatives, best first: text and log-probability; as many as `logprobs` asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        top: Vec<(String, f32)>,
    },
    /// A generation or a choice ended.
    GenEnd {
        /// Where it ran.
        branch: String,
        /// The generation.
        span: Place,
        /// Its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its value.
        value: Value,
        /// How many tokens it took.
        tokens: usize,
        /// The sum of their log-probabilities.
        logprob: f64,
        /// Why it ended: `end`, `stop`, `length`, `select`, `dry_run`.
        finish: &'static str,
    },
    /// The whole prompt of a generation, in a dry run.
    Prompt {
        /// Where it would run.
        branch: String,
        /// The generation.
        span: Place,
        /// Its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The text the model would see.
        text: String,
        /// How many tokens that is.
        tokens: usize,
    },
    /// Branches start.
    Fork {
        /// Where they start from.
        branch: String,
        /// The `fork`, `best` or comprehension.
        span: Place,
        /// The branches' ids.
        branches: Vec<String>,
        /// Tokens of context that they share.
        shared_tokens: usize,
    },
    /// Branches ended.
    Join {
        /// Where they started from.
        branch: String,
        /// The `fork`, `best` or comprehension.
        span: Place,
        /// The branches whose results were kept; of `best`, the winner.
        kept: Vec<String>,
    },
    /// An attempt failed and is tried again.
    Retry {
        /// Where it ran.
        branch: String,
        /// The `attempt`.
        span: Place,
        /// The try that failed, from 1.
        failed: u32,
        /// Why.
        error: RunError,
    },
    /// The run ended well.
    Result {
        /// The root.
        branch: String,
        /// The whole source.
        span: Place,
        /// The result.
        value: Value,
    },
    /// The run ended otherwise.
    Error {
        /// Where it went wrong; a branch that fails without failing the run is no event of its own.
        branch: String,
        /// Where it went wrong.
        span: Place,
        /// What went wrong.
        error: RunError,
    },
}
