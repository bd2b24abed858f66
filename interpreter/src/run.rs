//! A run from its arguments to its envelope.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use lmrun_lang::Program;
use lmrun_lang::ast::Span;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::arguments::{self, ArgumentError, Arguments};
use crate::backend::Backend;
use crate::budget::Budget;
use crate::cancel::Cancel;
use crate::envelope::{Envelope, ErrorKind, RunError, Status, Usage};
use crate::event::{Event, Place};
use crate::machine::{Fault, Flow, Ledger, Machine, Outcome, ROOT, Shared};
use crate::prepare::{Prepared, prepare};
use crate::scope::Frozen;
use crate::seed;
use crate::stmt::Names;

/// Bounds on what a program may cost the host that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Statements and expressions evaluated; 256 bytes of value built or copied count as one.
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
    /// The most tokens that the run may generate; the program's own budget holds too.
    pub max_tokens: Option<usize>,
    /// The longest it may take; the program's own budget holds too.
    pub timeout: Option<Duration>,
    /// Show every prompt and generate nothing.
    pub dry_run: bool,
    /// Requests share cached prefixes only within a namespace (a tenant's salt); 0 is the default one.
    pub namespace: u64,
    /// Bounds on what it may cost.
    pub limits: Limits,
}

/// Runs a program. Events go to `events` as they happen; nobody needs to listen. Dropping the future drops every
/// request that the run holds; throwing `cancel` does too, and the envelope then says so.
pub async fn run(
    program: Arc<Program>,
    arguments: Arguments,
    options: RunOptions,
    backend: Arc<dyn Backend>,
    events: UnboundedSender<Event>,
    cancel: Cancel,
) -> Envelope {
    let started = Instant::now();
    let seed = options.seed.unwrap_or_else(seed::random);
    let place = Place(Span {
        start: 0,
        end: program.source.len(),
    });
    let prepared = prepare(&program, backend.capabilities())
        .map_err(|error| Box::new(error.locate(&program.source)));
    let (outcome, ledger) = match prepared {
        Ok(prepared) => {
            let timeout = shorter(options.timeout, prepared.time);
            let shared = share(program, options, backend, events.clone(), prepared);
            let outcome = bounded(&shared, arguments, seed, timeout, &cancel).await;
            let ledger = std::mem::take(&mut *shared.ledger());
            (outcome, ledger)
        }
        Err(fault) => (Err(fault), Ledger::default()),
    };
    let _ = events.send(match &outcome {
        Ok(value) => Event::Result {
            branch: ROOT.into(),
            span: place,
            value: value.clone(),
        },
        Err(error) => Event::Error {
            branch: error.branch.clone().unwrap_or_else(|| ROOT.into()),
            span: error.span.unwrap_or(place),
            error: RunError::clone(error),
        },
    });
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, result, error) = match outcome {
        Ok(value) => (Status::Ok, value, None),
        Err(error) => (error.kind.status(), Value::Null, Some(*error)),
    };
    let usage = Usage { ms, ..ledger.usage };
    Envelope {
        status,
        result,
        gens: ledger.gens,
        usage,
        seed,
        error,
    }
}

fn shorter<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn share(
    program: Arc<Program>,
    options: RunOptions,
    backend: Arc<dyn Backend>,
    events: UnboundedSender<Event>,
    prepared: Prepared,
) -> Arc<Shared> {
    let max_tokens = shorter(options.max_tokens, prepared.max_tokens);
    let budget = Budget::new(max_tokens, options.limits.steps);
    Arc::new(Shared {
        program,
        backend,
        events,
        options,
        budget,
        plain: prepared.plain,
        defaults: prepared.defaults,
        shapes: prepared.shapes,
        ends: prepared.ends,
        globals: OnceLock::new(),
        ledger: Mutex::default(),
        stack_base: AtomicUsize::new(0),
    })
}

/// The program, until it ends, time is up, or somebody cancels it.
async fn bounded(
    shared: &Arc<Shared>,
    arguments: Arguments,
    seed: u64,
    timeout: Option<Duration>,
    cancel: &Cancel,
) -> Outcome<Value> {
    let time_is_up = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let mut evaluation = std::pin::pin!(evaluate(shared, arguments, seed));
    let evaluating = std::future::poll_fn(|context| {
        shared.note_stack();
        evaluation.as_mut().poll(context)
    });
    tokio::select! {
        biased;
        () = cancel.cancelled() => {
            Err(Box::new(RunError::nowhere(ErrorKind::Interrupted, "the run was cancelled")))
        }
        () = time_is_up => {
            let ms = timeout.unwrap_or_default().as_millis();
            let message = format!("the run took longer than {ms} ms");
            Err(Box::new(RunError::nowhere(ErrorKind::Timeout, message)))
        }
        outcome = evaluating => outcome,
    }
}

/// The program's result: what it returns, else what it generated at the top.
async fn evaluate(shared: &Arc<Shared>, arguments: Arguments, seed: u64) -> Outcome<Value> {
    bind_inputs(shared, arguments, seed).await?;
    let mut root = Machine::root(Arc::clone(shared), seed);
    match root.block(&shared.program.ast.body, Names::Shared).await? {
        Flow::Return(value) => Ok(value),
        _ => {
            let ledger = shared.ledger();
            let value = |name: &String| Some((name.clone(), ledger.gens.get(name)?.value.clone()));
            Ok(Value::Object(
                root.generated.iter().filter_map(value).collect(),
            ))
        }
    }
}

/// Checks the arguments against the inputs and fills in defaults.
async fn bind_inputs(shared: &Arc<Shared>, mut given: Arguments, seed: u64) -> Outcome<()> {
    let program = &shared.program;
    let refuse = |error: ArgumentError, span| -> Fault {
        let error = RunError::nowhere(ErrorKind::Arguments, error.to_string());
        Box::new(RunError { span, ..error }.locate(&program.source))
    };
    for name in given.keys() {
        arguments::find(program, name).map_err(|error| refuse(error, None))?;
    }
    let mut machine = Machine::root(Arc::clone(shared), seed);
    for input in program.inputs() {
        let place = Some(Place(input.name.span));
        let value = match (given.remove(&input.name.text), input.default) {
            (Some(value), _) => value,
            (None, Some(default)) => machine.eval(default).await?,
            (None, None) => return Err(refuse(arguments::missing(&input), place)),
        };
        let value = arguments::fit(program, &input, value).map_err(|error| refuse(error, place))?;
        let value = machine.admit(input.name.span, value)?;
        machine.scope.bind(&input.name.text, value, false);
    }
    let inputs = Frozen::of(machine.scope.into_bindings());
    shared
        .globals
        .set(inputs)
        .map_err(|_| ())
        .expect("inputs are bound once, before the run");
    Ok(())
}
