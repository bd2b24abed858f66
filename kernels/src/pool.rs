//! Threads that run one closure together, many thousand times a second.
//!
//! A token of a small model is some two hundred short parallel sections. Between sections the workers
//! spin for a moment, which costs well under a microsecond, and then park, so that an idle pool costs
//! nothing. Work is split by thread index, so that caches stay warm; results do not depend on which
//! thread runs which share.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crate::share::{own_rows, share};

/// Checks of a flag before a thread parks: some hundred microseconds.
const N_SPINS: u32 = 20_000;

/// A closure borrowed for the length of one section.
type Section<'a> = dyn Fn(usize) + Sync + 'a;

/// Where one worker stands, on a cache line of its own: an epoch, and how far its share of it is.
///
/// A share is *posted* by the caller, *claimed* by whoever runs it, and *done*. The caller claims
/// what a worker has not begun when its own share is done: a worker whose core another process holds
/// then costs nothing.
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

const POSTED: u64 = 1;
const CLAIMED: u64 = 2;
const DONE: u64 = 3;
/// The worker leaves.
const STOP: u64 = u64::MAX;

impl Progress {
    fn state(epoch: u64, progress: u64) -> u64 {
        epoch << 2 | progress
    }

    /// Spins, then parks, until `is_it` accepts the state. Whoever changes the state must unpark.
    fn wait(&self, is_it: impl Fn(u64) -> bool) -> u64 {
        let mut n_spins = 0;
        loop {
            let state = self.0.load(Ordering::Acquire);
            if is_it(state) {
                return state;
            }
            if n_spins < N_SPINS {
                n_spins += 1;
                std::hint::spin_loop();
            } else {
                thread::park();
                // Woken for a section that is over by now, it waits for the next one as after any other.
                n_spins = 0;
            }
        }
    }

    /// Takes the share of this epoch, if nobody has.
    fn claim(&self, epoch: u64) -> bool {
        let (posted, claimed) = (Self::state(epoch, POSTED), Self::state(epoch, CLAIMED));
        self.0
            .compare_exchange(posted, claimed, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
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

// SAFETY: `job` is written before its shares are posted (release), read only by who has claimed one
// (acquire), and written again only after every claimed share is done; its pointer leads to a closure
// that is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

struct Worker {
    progress: Arc<Progress>,
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
            let progress = Arc::new(Progress::default());
            let (their_shared, their_progress) = (Arc::clone(&shared), Arc::clone(&progress));
            let thread = thread::Builder::new()
                .name(format!("lmrun-kernel-{thread_idx}"))
                .spawn(move || work(thread_idx, &their_shared, &their_progress))
                .ok()?;
            Some(Worker { progress, thread })
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

    /// Runs `section(thread_idx)` for every thread's index and returns when all have finished.
    ///
    /// # Panics
    /// If the section panics on any thread, after all have finished.
    pub(crate) fn run(&mut self, section: &Section<'_>) {
        if self.workers.is_empty() {
            section(0);
            return;
        }
        let pointer: *const Section<'_> = section;
        // SAFETY: only the lifetime changes. The pointer is read by who has claimed a share, and
        // `Finish` waits for all of those before this function returns or unwinds.
        let section_ptr =
            unsafe { std::mem::transmute::<*const Section<'_>, *const Section<'static>>(pointer) };
        let job = Job {
            section: section_ptr,
            caller: thread::current(),
        };
        // SAFETY: no share is claimed: the last section's `Finish` saw them all done.
        unsafe { *self.shared.job.get() = Some(job) };
        self.epoch += 1;
        let posted = Progress::state(self.epoch, POSTED);
        for worker in &self.workers {
            worker.progress.0.store(posted, Ordering::Release);
            worker.thread.thread().unpark();
        }
        let finish = Finish {
            workers: &self.workers,
            epoch: self.epoch,
        };
        section(0);
        for (worker, thread_idx) in self.workers.iter().zip(1..) {
            if worker.progress.claim(self.epoch) {
                let _done = MarkDone {
                    progress: &worker.progress,
                    epoch: self.epoch,
                };
                section(thread_idx);
            }
        }
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
            return each(0..n_items);
        }
        let n_threads = self.n_threads();
        self.run(&|thread_idx| {
            let range = share(n_items, thread_idx, n_threads);
            if !range.is_empty() {
                each(range);
            }
        });
    }

    /// As [`Pool::run_split`], of rows of activations: runs `each(thread_idx, runs)` over each thread's own of `0..n_rows`.
    pub(crate) fn run_own(
        &mut self,
        n_rows: usize,
        n_worthwhile: usize,
        each: impl Fn(usize, [Range<usize>; 2]) + Sync,
    ) {
        if n_rows < n_worthwhile {
            return each(0, own_rows(n_rows, 0, 1));
        }
        let n_threads = self.n_threads();
        self.run(&|thread_idx| each(thread_idx, own_rows(n_rows, thread_idx, n_threads)));
    }
}

/// Marks a claimed share done, also if it unwinds.
struct MarkDone<'a> {
    progress: &'a Progress,
    epoch: u64,
}

impl Drop for MarkDone<'_> {
    fn drop(&mut self) {
        self.progress
            .0
            .store(Progress::state(self.epoch, DONE), Ordering::Release);
    }
}

/// Takes back what no worker has claimed and waits for the rest, also while the caller unwinds.
struct Finish<'a> {
    workers: &'a [Worker],
    epoch: u64,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for Worker { progress, .. } in self.workers {
            if !progress.claim(self.epoch) {
                progress.wait(|state| state == Progress::state(self.epoch, DONE));
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            worker.progress.0.store(STOP, Ordering::Release);
            worker.thread.thread().unpark();
            // A worker catches the panics of its sections, so it has nothing to report here.
            drop(worker.thread.join());
        }
    }
}

fn work(thread_idx: usize, shared: &Shared, progress: &Progress) {
    loop {
        let state = progress.wait(|state| state == STOP || state & 3 == POSTED);
        if state == STOP {
            return;
        }
        let epoch = state >> 2;
        if !progress.claim(epoch) {
            continue;
        }
        // SAFETY: the share is claimed, so the caller has written the job and does not touch it, nor
        // end the closure's life, until the share is done.
        let (section, caller) = unsafe {
            let job = (*shared.job.get())
                .as_ref()
                .expect("a job before its shares");
            (&*job.section, job.caller.clone())
        };
        if catch_unwind(AssertUnwindSafe(|| section(thread_idx))).is_err() {
            shared.has_panicked.store(true, Ordering::Release);
        }
        drop(MarkDone { progress, epoch });
        caller.unpark();
    }
}
