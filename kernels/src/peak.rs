//! What the machine can do at most, measured with the instructions and threads that the kernels use: the yardsticks
//! of every benchmark.
//!
//! Each figure is the median of five. Virtual machines move between placements of their cores: log these beside
//! whatever they are compared with.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::lines::{Arena, Lines};
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd};
use crate::{KernelError, Tier, cpu};

/// Times each figure is taken.
const N_RUNS: usize = 5;
/// Products of one run and thread.
const N_PRODUCTS: usize = 24 << 20;
/// Products of each sum before it is widened and the operands are looked at anew.
const N_UNROLLED: usize = 8;
/// Bits of codes whose products have room in a narrow sum, on every tier.
const N_BITS: usize = 4;
/// Multiplications and additions of one product of sixteen lanes.
const N_OPERATIONS: usize = 2 * 4 * LANES;
/// Bytes read in one run by all threads: more than caches hold.
const N_READ: usize = 256 << 20;
/// Bytes that one thread reads at least.
const MIN_READ: usize = 8 << 20;
/// Meetings of the threads in one run.
const N_MEETINGS: u32 = 1_000;

/// The most that some threads of this machine do together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Multiplications and additions of int8 products, in 10^12 a second.
    pub int8_tops: f64,
    /// Bytes read from memory, in 10^9 a second.
    pub read_gbs: f64,
    /// What it takes the threads to begin together and to end together, in nanoseconds.
    pub barrier_ns: f64,
}

impl Peak {
    /// Measures `n_threads` threads, the caller's own among them; takes about a second.
    ///
    /// # Errors
    /// If there is not enough memory to read.
    pub fn measure(n_threads: usize) -> Result<Self, KernelError> {
        let mut pool = Pool::new(n_threads);
        let n_threads = pool.n_threads();
        let mut arena = Arena::default();
        let lines = (0..n_threads)
            .map(|_| {
                let mut lines = arena.zeroed(MIN_READ.max(N_READ / n_threads))?;
                // Pages never written are all the same page.
                lines.bytes_mut().fill(1);
                Ok(lines)
            })
            .collect::<Result<Vec<Lines>, KernelError>>()?;
        let n_read: usize = lines.iter().map(|lines| lines.bytes().len()).sum();
        let multiplying = median(|| {
            pool.run(&|_| {
                black_box(cpu::run_on(Tier::Avx512, Dots));
            });
        });
        let reading = median(|| {
            pool.run(&|thread_idx| {
                let bytes = lines[thread_idx].bytes();
                black_box(cpu::run_on(Tier::Avx512, Read { bytes }));
            });
        });
        let meeting = median(|| {
            for _ in 0..N_MEETINGS {
                meet(&mut pool);
            }
        });
        Ok(Self {
            int8_tops: (n_threads * N_PRODUCTS * N_OPERATIONS) as f64
                / multiplying.as_secs_f64()
                / 1e12,
            read_gbs: n_read as f64 / reading.as_secs_f64() / 1e9,
            barrier_ns: meeting.as_secs_f64() * 1e9 / f64::from(N_MEETINGS),
        })
    }
}

/// Begins on every thread and ends on all of them: the caller does not run the shares of the others.
fn meet(pool: &mut Pool) {
    let n_missing = AtomicUsize::new(pool.n_threads());
    pool.run(&|thread_idx| {
        n_missing.fetch_sub(1, Ordering::AcqRel);
        while thread_idx == 0 && n_missing.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
    });
}

/// The median time of something.
fn median(mut what: impl FnMut()) -> Duration {
    let mut times: [Duration; N_RUNS] = std::array::from_fn(|_| {
        let started = Instant::now();
        what();
        started.elapsed()
    });
    times.sort_unstable();
    times[N_RUNS / 2]
}

/// Products of four bytes a lane, as fast as they go.
struct Dots;

impl Kernel for Dots {
    type Output = i32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> i32 {
        // As many sums, none of which waits for another, as there are registers for.
        if S::IS_WIDE {
            products::<S, 12>(s)
        } else {
            products::<S, 4>(s)
        }
    }
}

#[inline(always)]
fn products<S: Simd, const N: usize>(s: S) -> i32 {
    // No product is of the same operands as another, or it would be computed once for both.
    let inputs: [i32; N] = black_box(std::array::from_fn(|i| 0x0101_0101 * (1 + i as i32)));
    let mut factors = [s.splat_int(0); N];
    for (factors, inputs) in factors.iter_mut().zip(inputs) {
        *factors = s.splat_int(inputs);
    }
    let lines: [[u8; 4 * LANES]; N_UNROLLED] = std::array::from_fn(|i| [1 + i as u8; 4 * LANES]);
    let mut sums = [s.splat_int(0); N];
    for _ in 0..N_PRODUCTS / (N * N_UNROLLED) {
        let [first, others @ ..] = black_box(&lines);
        let mut narrow = sums;
        let codes = s.load_bytes(first);
        for i in 0..N {
            narrow[i] = s.first_products(N_BITS, sums[i], codes, factors[i]);
        }
        for line in others {
            let codes = s.load_bytes(line);
            for i in 0..N {
                narrow[i] = s.add_products(N_BITS, narrow[i], codes, factors[i]);
            }
        }
        for i in 0..N {
            sums[i] = s.widen(sums[i], narrow[i]);
        }
    }
    sums.into_iter()
        .fold(0, |total, sum| total.wrapping_add(s.reduce_add_int(sum)))
}

/// The sum of the bytes in fours, which reads every line once and in order.
struct Read<'a> {
    bytes: &'a [u8],
}

impl Kernel for Read<'_> {
    type Output = i32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> i32 {
        const N_STREAMS: usize = 4;
        let ones = s.splat_int(0x0101_0101);
        let mut sums = [s.splat_int(0); N_STREAMS];
        let (quads, _) = self.bytes.as_chunks::<{ N_STREAMS * 4 * LANES }>();
        for quad in quads {
            for (sum, line) in sums.iter_mut().zip(quad.as_chunks::<{ 4 * LANES }>().0) {
                *sum = s.dot4(*sum, s.load_bytes(line), ones);
            }
        }
        let mut total = 0i32;
        for sum in sums {
            total = total.wrapping_add(s.reduce_add_int(sum));
        }
        total
    }
}
