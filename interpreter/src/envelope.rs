//! What a run came to: the envelope, its error, and the exit code that says the same in one number.

use std::collections::BTreeMap;
use std::fmt;

use lmrun_lang::ast::Span;
use serde::Serialize;
use serde_json::Value;

use crate::event::Place;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has a result.
    Ok,
    /// The program itself said no: `fail`, or an `assert` that did not hold.
    Failed,
    /// It could not be carried out.
    Error,
    /// Somebody cancelled it.
    Interrupted,
}

/// The whole outcome of a run: `{status, result, gens, usage, seed, error?}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Envelope {
    /// How it ended.
    pub status: Status,
    /// The value of `return`, else the top-level generations by name; null unless the status is ok.
    pub result: Value,
    /// Every named generation. Those of a branch or a function call are named `branch/name`, those of the root by
    /// their name alone; of a name generated again on one path, the last.
    pub gens: BTreeMap<String, GenRecord>,
    /// What it cost.
    pub usage: Usage,
    /// The seed it ran with: the same program, arguments and seed give the same run.
    pub seed: u64,
    /// Why it did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

/// One generation or choice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenRecord {
    /// The typed value.
    pub value: Value,
    /// The text as generated.
    pub text: String,
    /// How many tokens it took.
    pub tokens: usize,
    /// The sum of their log-probabilities (natural logarithm, before mask and temperature).
    pub logprob: f64,
    /// Why it ended: `end`, `stop`, `length`, `select`, `dry_run`.
    pub finish: &'static str,
    /// Of a choice: each option's share, in the options' order; they sum to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<serde_json::Map<String, Value>>,
    /// Of a choice: the model's total probability on the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mass: Option<f64>,
}

/// What a run cost: tokens, and milliseconds of wall time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Prompt tokens, over all requests.
    pub prompt: usize,
    /// Of those, read from the cache.
    pub cached: usize,
    /// Generated tokens.
    pub generated: usize,
    /// Of those, forced by a constraint.
    pub forced: usize,
    /// Milliseconds.
    pub ms: u64,
}

/// What kind of thing went wrong; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// `fail`. Exit code 1.
    Fail,
    /// An `assert` that did not hold. Exit code 1.
    Assert,
    /// An evaluation without a value: an index out of range, a division by zero. Exit code 1.
    Value,
    /// A generation that did not come to a value of its type. Exit code 1.
    Generation,
    /// Arguments that do not fit the inputs. Exit code 2.
    Arguments,
    /// The program cannot run as written. Exit code 3.
    Check,
    /// The backend cannot honour what the program needs. Exit code 4.
    Capability,
    /// A budget or a limit was used up. Exit code 5.
    Budget,
    /// Out of time. Exit code 5.
    Timeout,
    /// The backend failed. Exit code 6.
    Backend,
    /// Cancelled. Exit code 130.
    Interrupted,
}

/// Why a run did not end well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunError {
    /// What kind of thing it is.
    pub kind: ErrorKind,
    /// What went wrong, both sides stated.
    pub message: String,
    /// The diagnostic's code, of a program that does not check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Where in the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Place>,
    /// Line of the place, from 1; 0 without a place.
    pub line: usize,
    /// Column of the place in characters, from 1; 0 without a place.
    pub column: usize,
    /// The branch it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

impl RunError {
    /// An error at a place in the source.
    pub(crate) fn at(kind: ErrorKind, span: Span, message: impl Into<String>) -> Self {
        Self {
            span: Some(Place(span)),
            ..Self::nowhere(kind, message)
        }
    }

    /// An error of the run as a whole.
    pub(crate) fn nowhere(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            span: None,
            line: 0,
            column: 0,
            branch: None,
        }
    }

    /// Fills line and column from the span.
    pub(crate) fn locate(mut self, source: &str) -> Self {
        if let Some(Place(span)) = self.span {
            let before = source.get(..span.start).unwrap_or(source);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            self.line = before.matches('\n').count() + 1;
            self.column = before[line_start..].chars().count() + 1;
        }
        self
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}

impl ErrorKind {
    /// How a run ends that this ends.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Fail | Self::Assert => Status::Failed,
            Self::Interrupted => Status::Interrupted,
            _ => Status::Error,
        }
    }
}

impl Envelope {
    /// 0 ok; 1 the program failed; 2 usage; 3 check; 4 capability; 5 budget or time; 6 backend; 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        let Some(error) = &self.error else { return 0 };
        match error.kind {
            ErrorKind::Fail | ErrorKind::Assert | ErrorKind::Value | ErrorKind::Generation => 1,
            ErrorKind::Arguments => 2,
            ErrorKind::Check => 3,
            ErrorKind::Capability => 4,
            ErrorKind::Budget | ErrorKind::Timeout => 5,
            ErrorKind::Backend => 6,
            ErrorKind::Interrupted => 130,
        }
    }
}
