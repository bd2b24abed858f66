//! Steps of the decoder alone, without an engine:
//! `[THREADS=1] cargo bench -p lmrun-model --bench step -- FILE [N_RUNS [SHAPE]]`.
//!
//! Prints the shortest and the median time of each shape. No figure depends on what the tokens are. Where other work
//! runs beside, compare the shortest times of two builds that take turns.

#![expect(clippy::print_stdout, reason = "it reports to whoever runs it")]

use std::path::Path;
use std::time::{Duration, Instant};

use lmrun_kernels::Peak;
use lmrun_model::{Batch, Checkpoint, Decoder, DecoderOptions, Outputs, Pick, Precision, Span};

const PAGE_SIZE: usize = 16;
/// Tokens that the engine computes in one step.
const CHUNK: usize = 512;
/// Positions already there when a decode step is timed.
const N_BEFORE: usize = 128;

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 1000 + i * 7919 % 40_000).collect()
}

fn forward(decoder: &mut dyn Decoder, spans: Vec<Span<'_>>) {
    decoder.forward(&Batch { spans }).expect("a valid batch");
}

fn prefill(decoder: &mut dyn Decoder, n_tokens: usize) -> Duration {
    let (tokens, pages) = (
        tokens(n_tokens),
        Vec::from_iter(0..n_tokens.div_ceil(PAGE_SIZE) as u32),
    );
    let started = Instant::now();
    for (chunk_idx, chunk) in tokens.chunks(CHUNK).enumerate() {
        let start = chunk_idx * CHUNK;
        let is_last = start + chunk.len() == n_tokens;
        let outputs = if is_last {
            Outputs::Last
        } else {
            Outputs::None
        };
        forward(
            decoder,
            vec![Span {
                tokens: chunk,
                start,
                pages: &pages,
                outputs,
            }],
        );
    }
    started.elapsed()
}

/// `n_columns` tokens of each of `n_sequences`, `n_steps` times, with the logits that are picked of each.
fn decode(
    decoder: &mut dyn Decoder,
    (n_sequences, n_columns): (usize, usize),
    n_steps: usize,
    pick: Pick<'_>,
) -> Duration {
    let n_pages = (N_BEFORE + n_steps * n_columns).div_ceil(PAGE_SIZE);
    let tables: Vec<Vec<u32>> = (0..n_sequences)
        .map(|i| Vec::from_iter((i * n_pages) as u32..((i + 1) * n_pages) as u32))
        .collect();
    let tokens = tokens(N_BEFORE + n_steps * n_columns);
    let started = Instant::now();
    for step in 0..n_steps {
        let start = N_BEFORE + step * n_columns;
        let span = |pages| Span {
            tokens: &tokens[start..start + n_columns],
            start,
            pages,
            outputs: Outputs::All,
        };
        let spans = tables.iter().map(|pages| span(pages)).collect();
        let picks = vec![pick; n_sequences * n_columns];
        let logits = decoder.forward_picked(&Batch { spans }, &picks);
        logits.expect("a valid batch");
    }
    started.elapsed() / n_steps as u32
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let Some(path) = arguments.next() else {
        return println!("no checkpoint given: nothing is measured");
    };
    let n_runs = arguments
        .next()
        .map_or(5, |n| n.parse().expect("a number of runs"));
    let only: Option<String> = arguments.next();
    let checkpoint = Checkpoint::open(Path::new(&path)).expect("a checkpoint");
    let options = DecoderOptions {
        precision: Precision::Quantised,
        n_threads: std::env::var("THREADS").map_or(2, |n| n.parse().expect("threads")),
        page_size: PAGE_SIZE,
        n_pages: 2048,
        ..DecoderOptions::default()
    };
    let mut decoder = checkpoint.decoder(&options).expect("a decoder");
    let decoder = &mut *decoder;
    let peak = Peak::measure(options.n_threads).expect("memory to read");
    println!(
        "{:.2} TOPS of int8, {:.0} GB/s, a meeting of the threads {:.0} ns",
        peak.int8_tops, peak.read_gbs, peak.barrier_ns
    );
    let report = |what: &str, n_tokens: usize, run: &mut dyn FnMut() -> Duration| {
        if only.as_ref().is_some_and(|only| only != what) {
            return;
        }
        let mut times: Vec<Duration> = (0..n_runs).map(|_| run()).collect();
        times.sort_unstable();
        let speed = |time: Duration| n_tokens as f64 / time.as_secs_f64();
        println!(
            "{what:12} best {:8.3} ms {:7.0} tok/s   median {:7.0} tok/s",
            times[0].as_secs_f64() * 1e3,
            speed(times[0]),
            speed(times[times.len() / 2]),
        );
    };
    for n in [1, 4, 16] {
        report(&format!("decode-{n}"), n, &mut || {
            decode(decoder, (n, 1), 32, Pick::All)
        });
    }
    // Columns of one sequence, as forced and guessed tokens are.
    for n in [2, 4, 8] {
        report(&format!("columns-{n}"), n, &mut || {
            decode(decoder, (1, n), 32, Pick::All)
        });
    }
    let n_vocab = decoder.config().n_vocab;
    for n in [0, 16, 256, 1024, 2048, 4096, 8192].map(|n: usize| n.min(n_vocab)) {
        // Evenly spread: nearly every token lies in a tile of its own, as long as there are tiles.
        let picked: Vec<u32> = (0..n).map(|i| (i * n_vocab / n) as u32).collect();
        report(&format!("picked-{n}"), 1, &mut || {
            decode(decoder, (1, 1), 32, Pick::Tokens(&picked))
        });
    }
    for n in [32, 512, 2048] {
        report(&format!("prefill-{n}"), n, &mut || prefill(decoder, n));
    }
}
