//! Slow work that is pure, spread over the cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How often it is told how far the work has come.
const N_TOLD: usize = 20;

/// What `work` gives for each number below `n`, in order. All cores take the numbers as they come.
#[expect(clippy::print_stdout, reason = "slow work says how far it has come")]
pub fn each<R: Send>(n: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(n));
    let take = || {
        loop {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            if idx >= n {
                break;
            }
            let result = work(idx);
            let mut done = done.lock().expect("no thread panics here");
            done.push((idx, result));
            // Exactly where another share of the whole is reached.
            if done.len() * N_TOLD % n < N_TOLD {
                println!("{} of {n}", done.len());
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..n_cores {
            scope.spawn(take);
        }
    });
    let mut done = done.into_inner().expect("no thread panicked");
    done.sort_by_key(|&(idx, _)| idx);
    done.into_iter().map(|(_, result)| result).collect()
}
