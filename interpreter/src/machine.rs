//! One branch of a run, and what all branches share.
//!
//! A [`Machine`] evaluates one path through the program: it owns its context and its names. `stmt`, `expr`, `call`,
//! `generate`, `select`, `fork` and `library` each add the part of it that their construct needs. Branches are machines
//! of their own; they run concurrently inside the future of the fork that made them, so that none outlives it and
//! dropping a run's future drops every request it holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lmrun_lang::Program;
use lmrun_lang::ast::Span;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::backend::{Backend, Cost, Prompt};
use crate::budget::Budget;
use crate::constraint::Shape;
use crate::context::Context;
use crate::envelope::{ErrorKind, GenRecord, RunError, Usage};
use crate::event::{Event, Place};
use crate::gen_options::GenOptions;
use crate::run::RunOptions;
use crate::scope::{Frozen, Scope};
use crate::{seed, value};

/// Why an evaluation stopped. Boxed: it travels through every result.
pub(crate) type Fault = Box<RunError>;

/// What an evaluation comes to.
pub(crate) type Outcome<T> = Result<T, Fault>;

/// Expressions and blocks that may be open inside each other, calls included.
const MAX_NESTING: usize = 700;

/// Bytes of stack that a run's open expressions and blocks may take: half of what a thread of the runtime has.
const MAX_STACK_BYTES: usize = 1 << 20;

/// Steps between two returns to the runtime, so that a run that only computes can be cancelled and timed out.
const STEPS_PER_TURN: u64 = 512;

/// Bytes of value that count as a step when they are built or copied.
const BYTES_PER_STEP: usize = 256;

/// The root's path.
pub(crate) const ROOT: &str = "0";

/// What all branches of a run share.
pub(crate) struct Shared {
    pub(crate) program: Arc<Program>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) options: RunOptions,
    pub(crate) budget: Budget,
    /// Whether the model is used without its chat template.
    pub(crate) plain: bool,
    /// What `model .. with (..)` sets for every generation.
    pub(crate) defaults: GenOptions,
    /// The shape of every type that a `gen` of the program names, by the type's place.
    pub(crate) shapes: HashMap<Span, Shape>,
    /// The selects after which their turn ends.
    pub(crate) ends: HashSet<Span>,
    /// The inputs, once the arguments are bound.
    pub(crate) globals: OnceLock<Arc<Frozen>>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Where the stack stood when the run was last polled. All of a run's branches are polled inside its own poll.
    pub(crate) stack_base: AtomicUsize,
}

/// What a run has produced and cost so far, whatever becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) gens: BTreeMap<String, GenRecord>,
    pub(crate) usage: Usage,
}

impl Shared {
    /// Notes where the stack stands, at the start of a poll.
    pub(crate) fn note_stack(&self) {
        self.stack_base.store(stack_address(), Ordering::Relaxed);
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About where the stack stands.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::hint::black_box(std::ptr::from_ref(&here)).addr()
}

/// How a block was left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Flow {
    /// At its end.
    Next,
    Break,
    Continue,
    Return(Value),
    Yield(Value),
}

/// One branch.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) context: Context,
    pub(crate) scope: Scope,
    /// The path from the root: `0.2.1`.
    pub(crate) path: String,
    seed: u64,
    n_children: u64,
    n_gens: u64,
    nesting: usize,
    /// Calls of functions and parts that are open.
    pub(crate) n_calls: usize,
    /// Names generated here, in the order of their first generation.
    pub(crate) generated: Vec<String>,
}

impl Machine {
    /// The root of a run.
    pub(crate) fn root(shared: Arc<Shared>, seed: u64) -> Self {
        Self {
            context: Context::new(!shared.plain),
            scope: Scope::over(shared.globals.get().cloned()),
            shared,
            path: ROOT.to_owned(),
            seed,
            n_children: 0,
            n_gens: 0,
            nesting: 0,
            n_calls: 0,
            generated: Vec::new(),
        }
    }

    /// Numbers for `n` children, in a row; the first of them.
    pub(crate) fn number_children(&mut self, n: usize) -> u64 {
        let first = self.n_children;
        self.n_children += n as u64;
        first
    }

    /// The child with this number, with a context and names of its own.
    pub(crate) fn child(&self, number: u64, context: Context, outer: Option<Arc<Frozen>>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            context,
            scope: Scope::over(outer),
            path: self.child_path(number),
            seed: seed::of_child(self.seed, number),
            n_children: 0,
            n_gens: 0,
            nesting: self.nesting,
            n_calls: self.n_calls,
            generated: Vec::new(),
        }
    }

    /// The path of a child.
    pub(crate) fn child_path(&self, number: u64) -> String {
        format!("{}.{number}", self.path)
    }

    /// The seed of the next generation.
    pub(crate) fn next_seed(&mut self) -> u64 {
        let seed = seed::of_generation(self.seed, self.n_gens);
        self.n_gens += 1;
        seed
    }

    /// A fault at a place.
    pub(crate) fn fault(&self, kind: ErrorKind, span: Span, message: impl Into<String>) -> Fault {
        let error = RunError::at(kind, span, message).locate(&self.shared.program.source);
        Box::new(RunError {
            branch: Some(self.path.clone()),
            ..error
        })
    }

    /// A fault of evaluation: no value.
    pub(crate) fn no_value(&self, span: Span, message: impl Into<String>) -> Fault {
        self.fault(ErrorKind::Value, span, message)
    }

    /// Opens an expression or a block.
    pub(crate) fn descend(&mut self, span: Span) -> Outcome<()> {
        let n_stack_bytes =
            stack_address().abs_diff(self.shared.stack_base.load(Ordering::Relaxed));
        if self.nesting >= MAX_NESTING || n_stack_bytes > MAX_STACK_BYTES {
            let given = self.nesting + 1;
            let message = format!(
                "{given} blocks, calls and expressions are open; the limit is {MAX_NESTING}, or {MAX_STACK_BYTES} \
                 bytes of stack"
            );
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        self.nesting += 1;
        Ok(())
    }

    /// Closes what [`Machine::descend`] opened.
    pub(crate) fn ascend(&mut self) {
        self.nesting -= 1;
    }

    /// How much is open.
    pub(crate) fn nesting(&self) -> usize {
        self.nesting
    }

    /// Goes back to what was open before a fault.
    pub(crate) fn set_nesting(&mut self, nesting: usize) {
        self.nesting = nesting;
    }

    /// Counts a step and lets others run now and then.
    pub(crate) async fn step(&self, span: Span) -> Outcome<()> {
        match self.shared.budget.take_step() {
            Ok(n_steps) => {
                if n_steps.is_multiple_of(STEPS_PER_TURN) {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            Err(limit) => Err(self.too_many_steps(span, limit)),
        }
    }

    fn too_many_steps(&self, span: Span, limit: u64) -> Fault {
        let message = format!("the program takes more than {limit} steps of evaluation");
        self.fault(ErrorKind::Budget, span, message)
    }

    /// Counts bytes that were built or copied.
    pub(crate) fn charge(&self, span: Span, n_bytes: usize) -> Outcome<()> {
        let limit = self.shared.options.limits.value_bytes;
        if n_bytes > limit {
            let message = format!("a value of {n_bytes} bytes; the limit is {limit}");
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        for _ in 0..n_bytes / BYTES_PER_STEP {
            if let Err(limit) = self.shared.budget.take_step() {
                return Err(self.too_many_steps(span, limit));
            }
        }
        Ok(())
    }

    /// A value just built or copied, if it is within the limits on values.
    pub(crate) fn admit(&self, span: Span, value: Value) -> Outcome<Value> {
        let (n_bytes, depth) = value::measure(&value);
        self.charge(span, n_bytes)?;
        if depth > value::MAX_NESTING {
            let message = format!("a value that nests deeper than {}", value::MAX_NESTING);
            return Err(self.fault(ErrorKind::Budget, span, message));
        }
        Ok(value)
    }

    /// Tells an event. A run goes on when nobody listens.
    pub(crate) fn tell(&self, event: impl FnOnce(String) -> Event) {
        let _ = self.shared.events.send(event(self.path.clone()));
    }

    /// The context as a request of this branch.
    pub(crate) fn prompt(&self, name: Option<&str>, healed: &str) -> Prompt {
        Prompt {
            tokens: self.context.tokens().to_vec(),
            namespace: self.shared.options.namespace,
            name: name.map(str::to_owned),
            branch: self.path.clone(),
            healed: healed.to_owned(),
        }
    }

    /// Adds up what a request cost.
    pub(crate) fn pay(&self, cost: Cost) {
        let usage = &mut self.shared.ledger().usage;
        usage.prompt += cost.n_prompt;
        usage.cached += cost.n_cached;
        usage.generated += cost.n_generated;
        usage.forced += cost.n_forced;
    }

    /// Notes a finished generation, binds its name and tells of it.
    pub(crate) fn record(&mut self, name: Option<&str>, span: Span, record: GenRecord) {
        self.tell(|branch| Event::GenEnd {
            branch,
            span: Place(span),
            name: name.map(str::to_owned),
            value: record.value.clone(),
            tokens: record.tokens,
            logprob: record.logprob,
            finish: record.finish,
        });
        let Some(name) = name else { return };
        self.note(name, record.clone());
        self.scope.bind_generation(name, record);
    }

    /// Enters a generation in the ledger.
    pub(crate) fn note(&mut self, name: &str, record: GenRecord) {
        if !self.generated.iter().any(|known| known == name) {
            self.generated.push(name.to_owned());
        }
        let key = if self.path == ROOT {
            name.to_owned()
        } else {
            format!("{}/{name}", self.path)
        };
        self.shared.ledger().gens.insert(key, record);
    }
}
