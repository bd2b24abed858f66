//! Threads that run one closure together, many thousand times a second.
//!
//! A token of a small model is some two hundred short parallel sections. Between sections the workers
//! spin for a moment, which costs well under a microsecond, and then park, so that an idle pool, or
//! one whose cores are taken by another process, costs nothing. Work is split by thread index, never
//! stolen: results do not depend on it, and caches stay warm.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

/// Checks of a flag before a thread parks: about half a millisecond.
const N_SPINS: u32 = 20_000;

/// The epoch at which workers leave.
const STOP: u64 = u64::MAX;

/// A closure borrowed for the length of one section.
type Section<'a> = dyn Fn(usize) + Sync + 'a;

/// An epoch on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Epoch(AtomicU64);

impl Epoch {
    /// Waits until `is_reached` says yes: spins, then parks. Whoever moves the epoch must unpark.
    fn wait(&self, is_reached: impl Fn(u64) -> bool) -> u64 {
        let mut n_spins = 0;
        loop {
            let epoch = self.0.load(Ordering::Acquire);
            if is_reached(epoch) {
                return epoch;
            }
            if n_spins < N_SPINS {
                n_spins += 1;
                std::hint::spin_loop();
            } else {
                thread::park();
            }
        }
    }
}

/// What the caller hands to its workers.
struct Job {
    section: *const Section<'static>,
    caller: Thread,
}

#[derive(Default)]
struct Shared {
    /// Written by the caller alone, while every worker waits for its epoch to move.
    job: UnsafeCell<Option<Job>>,
    has_panicked: AtomicBool,
}

// SAFETY: `job` is written before the workers' epochs move (release) and read after (acquire), and
// written again only after every worker has reported the section done; its pointer leads to a closure
// that is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

#[derive(Default)]
struct Signals {
    started: Epoch,
    done: Epoch,
}

struct Worker {
    signals: Arc<Signals>,
    thread: JoinHandle<()>,
}

/// A fixed set of threads; the caller's own is number 0.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    epoch: u64,
}

impl Pool {
    /// A pool of `n_threads` in all; fewer if the system gives no more.
    pub(crate) fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..n_threads).map_while(|thread_idx| {
            let signals = Arc::new(Signals::default());
            let (their_shared, their_signals) = (Arc::clone(&shared), Arc::clone(&signals));
            let thread = thread::Builder::new()
                .name(format!("lmrun-kernel-{thread_idx}"))
                .spawn(move || work(thread_idx, &their_shared, &their_signals))
                .ok()?;
            Some(Worker { signals, thread })
        });
        let workers = workers.collect();
        Self {
            shared,
            workers,
            epoch: 0,
        }
    }

    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `section(thread_idx)` on every thread and returns when all have finished.
    ///
    /// # Panics
    /// If the section panics on any thread, after all have finished.
    pub(crate) fn run(&mut self, section: &Section<'_>) {
        if self.workers.is_empty() {
            section(0);
            return;
        }
        let pointer: *const Section<'_> = section;
        // SAFETY: only the lifetime changes. The pointer is read by workers within this section, and
        // `Finish` waits for all of them before this function returns or unwinds.
        let section_ptr =
            unsafe { std::mem::transmute::<*const Section<'_>, *const Section<'static>>(pointer) };
        // SAFETY: every worker waits for its epoch: the last section's `Finish` saw them all done.
        unsafe {
            *self.shared.job.get() = Some(Job {
                section: section_ptr,
                caller: thread::current(),
            })
        };
        self.epoch += 1;
        for worker in &self.workers {
            worker
                .signals
                .started
                .0
                .store(self.epoch, Ordering::Release);
            worker.thread.thread().unpark();
        }
        let finish = Finish {
            workers: &self.workers,
            epoch: self.epoch,
        };
        section(0);
        drop(finish);
        assert!(
            !self.shared.has_panicked.swap(false, Ordering::AcqRel),
            "a kernel panicked on a worker thread"
        );
    }

    /// Runs `each(range)` over disjoint ranges that cover `0..n_items`, one a thread; on the caller's
    /// thread alone if there are fewer than `n_worthwhile` items.
    pub(crate) fn run_split(
        &mut self,
        n_items: usize,
        n_worthwhile: usize,
        each: impl Fn(Range<usize>) + Sync,
    ) {
        if n_items < n_worthwhile {
            each(0..n_items);
            return;
        }
        let n_threads = self.n_threads();
        self.run(&|thread_idx| {
            let range = n_items * thread_idx / n_threads..n_items * (thread_idx + 1) / n_threads;
            if !range.is_empty() {
                each(range);
            }
        });
    }
}

/// Waits for the workers, also while the caller unwinds.
struct Finish<'a> {
    workers: &'a [Worker],
    epoch: u64,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for worker in self.workers {
            worker.signals.done.wait(|epoch| epoch >= self.epoch);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            worker.signals.started.0.store(STOP, Ordering::Release);
            worker.thread.thread().unpark();
            // A worker catches the panics of its sections, so it has nothing to report here.
            drop(worker.thread.join());
        }
    }
}

fn work(thread_idx: usize, shared: &Shared, signals: &Signals) {
    let mut last = 0;
    loop {
        let epoch = signals.started.wait(|epoch| epoch > last);
        if epoch == STOP {
            return;
        }
        last = epoch;
        // SAFETY: the epoch moved, so the caller has written the job and does not touch it, nor end the
        // closure's life, until this worker's `done` follows.
        let (section, caller) = unsafe {
            let job = (*shared.job.get())
                .as_ref()
                .expect("a job before its epoch");
            (&*job.section, job.caller.clone())
        };
        if catch_unwind(AssertUnwindSafe(|| section(thread_idx))).is_err() {
            shared.has_panicked.store(true, Ordering::Release);
        }
        signals.done.0.store(epoch, Ordering::Release);
        caller.unpark();
    }
}
