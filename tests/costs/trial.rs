//! One constraint tried out on real tokens, and what that costs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lmrun::grammar_suite::Random;
use lmrun_grammar::{Constraint, GrammarError, Matcher, TokenMask};

use super::constraints::vocabulary;

/// Masks found of each constraint.
const N_MASKS: usize = 20;
/// Processor time that compiling a constraint and finding its masks may take; thrice that in a build for debugging.
const PATIENCE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 750 } else { 250 });
/// Bytes that a constraint and its masks may hold at once.
const MEMORY: u64 = 64 << 20;

/// What came of a constraint.
pub struct Trial {
    /// The error is a refusal of the constraint or of a mask; none at all is a panic.
    pub outcome: Option<Result<(), GrammarError>>,
    pub processor: Duration,
    /// The most bytes that were held at once.
    pub bytes: u64,
}

impl Trial {
    /// Compiles, and takes random tokens for as long as they are found.
    pub fn of(
        compile: impl FnOnce() -> Result<Constraint, GrammarError>,
        random: &mut Random,
    ) -> Self {
        // What all constraints share is not the first one's cost.
        let _ = vocabulary();
        let stopwatch = Stopwatch::start();
        let mut outcome = None;
        let memory = allocation_counter::measure(|| {
            let caught = catch_unwind(AssertUnwindSafe(|| follow(compile, random)));
            outcome = caught.ok();
        });
        Self {
            outcome,
            processor: stopwatch.elapsed(),
            bytes: memory.bytes_max,
        }
    }

    /// What is wrong with it, whatever the answer.
    pub fn wrong(&self) -> Option<String> {
        match &self.outcome {
            None => Some("it panics".into()),
            Some(Err(error @ GrammarError::IllegalToken { .. })) => Some(error.to_string()),
            _ if self.processor > PATIENCE => Some(format!("it takes {:?}", self.processor)),
            _ if self.bytes > MEMORY => Some(format!("it holds {} bytes", self.bytes)),
            _ => None,
        }
    }
}

fn follow(
    compile: impl FnOnce() -> Result<Constraint, GrammarError>,
    random: &mut Random,
) -> Result<(), GrammarError> {
    let mut matcher = Matcher::new(compile()?, Arc::clone(vocabulary()))?;
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

/// Time that the thread has spent on a processor, so that what else the machine does is not counted; of the wall where
/// the system does not tell.
#[derive(Debug)]
struct Stopwatch {
    started: Instant,
    processor: Option<Duration>,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            processor: processor_time(),
        }
    }

    fn elapsed(&self) -> Duration {
        let wall = self.started.elapsed();
        let processor = self.processor.zip(processor_time());
        processor.map_or(wall, |(before, now)| now.saturating_sub(before))
    }
}

/// Linux: the first number is the nanoseconds that the thread has run (`proc_pid_schedstat(5)`).
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}
