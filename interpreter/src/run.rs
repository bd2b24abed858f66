//! A run from its arguments to its envelope.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lmrun_lang::Program;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::{Arguments, Backend, Cancel, Envelope, ErrorKind, Event, RunError, Usage};

/// Bounds on what a program may cost the host that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Statements and expressions evaluated.
    pub steps: u64,
    /// Nesting of calls of `fn` and `part`.
    pub call_depth: usize,
    /// Bytes of a value: its text, and a few for each element.
    pub value_bytes: usize,
    /// Branches of one fork.
    pub branches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 10_000_000,
            call_depth: 64,
            value_bytes: 16 << 20,
            branches: 10_000,
        }
    }
}

/// How to run a program.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The seed; one is drawn, and told in the envelope, if none is given.
    pub seed: Option<u64>,
    /// The most tokens that the run may generate.
    pub max_tokens: Option<usize>,
    /// The longest it may take.
    pub timeout: Option<Duration>,
    /// Show every prompt and generate nothing.
    pub dry_run: bool,
    /// Requests share cached prefixes only within a namespace (a tenant's salt); 0 is the default one.
    pub namespace: u64,
    /// Bounds on what it may cost.
    pub limits: Limits,
}

/// Runs a program. Events go to `events` as they happen; nobody needs to listen. Dropping the future cancels every
/// request it holds, throwing `cancel` too, and the envelope then says so.
pub async fn run(
    program: Arc<Program>,
    arguments: Arguments,
    options: RunOptions,
    backend: Arc<dyn Backend>,
    events: UnboundedSender<Event>,
    cancel: Cancel,
) -> Envelope {
    let _ = (program, arguments, backend, events, cancel);
    let error = RunError::nowhere(ErrorKind::Backend, "the interpreter is not connected");
    Envelope {
        status: error.kind.status(),
        result: Value::Null,
        gens: BTreeMap::new(),
        usage: Usage::default(),
        seed: options.seed.unwrap_or_default(),
        error: Some(error.locate("")),
    }
}
