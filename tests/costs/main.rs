//! What a stranger's schemas may cost: processor time and memory, of one mutated schema and of very many.
//!
//! A binary of its own, because `allocation-counter` takes the place of the allocator. It counts the bytes that the
//! thread at hand holds, so that tests beside each other do not disturb it; a block that grows counts twice while it is
//! copied. See docs/constraints.md.
#![allow(
    unreachable_pub,
    reason = "modules of one test binary share what they export"
)]

#[path = "../support/constraints.rs"]
mod constraints;
mod many;
mod mutate;
mod mutated;

use std::time::{Duration, Instant};

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
