//! Exactness: nothing the engine does for speed changes a greedy output, down to the bits of its log-probabilities.
//!
//! The reference is one request alone, with the cache off and the prompt in one chunk. Everything else must equal it:
//! the cache on, a batch of sixteen, chunks of 16 to 512 tokens, a pool so small that sequences are preempted, branches
//! of a shared prefix.

use std::time::{Duration, Instant};

use lmrun_engine::{Engine, EngineOptions, KvFormat, Work};

use crate::support::engine::{Output, collect, encode, generate, greedy, open, submit};

const N_NEW: usize = 24;

/// Sixteen prompts of different lengths, the first four with a common beginning.
fn prompts() -> Vec<String> {
    let story = "The lighthouse keeper wrote down the weather every morning: wind, clouds, ships. ";
    let topics = [
        "rain", "bread", "glass", "iron", "tides", "owls", "maps", "clocks", "salt", "paper",
        "bees", "stone", "tea", "snow", "wool", "ink",
    ];
    topics
        .iter()
        .enumerate()
        .map(|(idx, topic)| {
            let shared = if idx < 4 {
                story.repeat(12)
            } else {
                story.repeat(idx % 5)
            };
            format!("{shared}Then one day the keeper wrote about {topic}:")
        })
        .collect()
}

fn alone(engine: &Engine) -> Vec<Output> {
    let handle = engine.handle();
    prompts()
        .iter()
        .map(|prompt| generate(&handle, encode(&handle, prompt), greedy(N_NEW)))
        .collect()
}

fn together(engine: &Engine) -> Vec<Output> {
    let handle = engine.handle();
    let running: Vec<_> = prompts()
        .iter()
        .map(|prompt| {
            let work = Work::Generate(Box::new(greedy(N_NEW)));
            submit(&handle, encode(&handle, prompt), work)
        })
        .collect();
    running.iter().map(collect).collect()
}

fn fingerprints(outputs: &[Output]) -> Vec<Vec<(u32, u32)>> {
    outputs.iter().map(Output::fingerprint).collect()
}

#[test]
fn greedy_output_is_the_same_whatever_the_engine_does() {
    let plain = EngineOptions {
        prefix_cache: false,
        max_batch_tokens: 4096,
        ..EngineOptions::default()
    };
    let engine = open(&plain);
    let reference = fingerprints(&alone(&engine));
    assert!(reference.iter().all(|tokens| !tokens.is_empty()));
    assert_eq!(
        fingerprints(&together(&engine)),
        reference,
        "a batch of sixteen, no cache"
    );
    drop(engine);

    for chunk in [16, 64, 512] {
        let options = EngineOptions {
            max_batch_tokens: chunk,
            ..EngineOptions::default()
        };
        let engine = open(&options);
        assert_eq!(
            fingerprints(&together(&engine)),
            reference,
            "batch, cache, chunk {chunk}"
        );
        let again = alone(&engine);
        assert_eq!(fingerprints(&again), reference, "warm cache, chunk {chunk}");
        assert!(
            again.iter().all(|output| output.n_cached > 0),
            "the second run reads the cache"
        );
    }
}

/// The first four prompts share a beginning, so that they are a batch, read the cache and copy pages.
#[test]
fn other_formats_of_keys_and_values_are_as_exact() {
    let outputs = |options: &EngineOptions, at_once: bool| {
        let engine = open(options);
        let handle = engine.handle();
        let prompts = prompts();
        let submitted = prompts[..4].iter().map(|prompt| {
            let work = Work::Generate(Box::new(greedy(N_NEW)));
            submit(&handle, encode(&handle, prompt), work)
        });
        let outputs: Vec<Output> = if at_once {
            let running: Vec<_> = submitted.collect();
            running.iter().map(collect).collect()
        } else {
            submitted.map(|running| collect(&running)).collect()
        };
        fingerprints(&outputs)
    };
    let mut all = Vec::new();
    for kv_format in [KvFormat::F32, KvFormat::Int8] {
        let plain = EngineOptions {
            kv_format,
            prefix_cache: false,
            max_batch_tokens: 4096,
            ..EngineOptions::default()
        };
        let reference = outputs(&plain, false);
        let shared = EngineOptions {
            prefix_cache: true,
            max_batch_tokens: 48,
            ..plain
        };
        assert_eq!(outputs(&shared, true), reference, "{kv_format:?}");
        all.push(reference);
    }
    // They are formats of their own.
    assert_ne!(all[0], all[1]);
}

/// A request's last event may come just before its pages do: within one step, so this waits a little.
fn assert_all_pages_come_back(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = engine.handle().stats();
        let n_known = stats.n_pages_free + stats.n_pages_cached + stats.n_pages_held;
        assert_eq!(n_known, stats.n_pages_total, "the pages balance");
        if stats.n_pages_held == 0 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} pages are still held",
            stats.n_pages_held
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn preemption_leaves_no_trace() {
    let engine = open(&EngineOptions::default());
    let reference = fingerprints(&together(&engine));
    drop(engine);
    // Room for about two of the longest prompts: sequences must be preempted or wait.
    let options = EngineOptions {
        kv_tokens: 640,
        ..EngineOptions::default()
    };
    let engine = open(&options);
    assert_eq!(fingerprints(&together(&engine)), reference);
    assert_all_pages_come_back(&engine);
}

#[test]
fn threads_do_not_change_bits() {
    let one = open(&EngineOptions {
        n_threads: 1,
        ..EngineOptions::default()
    });
    let reference = fingerprints(&alone(&one));
    drop(one);
    let two = open(&EngineOptions {
        n_threads: 2,
        ..EngineOptions::default()
    });
    assert_eq!(fingerprints(&alone(&two)), reference);
}

#[test]
fn eight_branches_compute_a_shared_prefix_once() {
    let engine = open(&EngineOptions::default());
    let handle = engine.handle();
    let mut prefix = encode(
        &handle,
        &"A shared prefix is computed once and read by all. ".repeat(120),
    );
    prefix.truncate(1000);
    assert_eq!(prefix.len(), 1000);
    let published = submit(&handle, prefix.clone(), Work::Publish);
    while let Ok(event) = published.recv() {
        if matches!(event, lmrun_engine::Event::Published { .. }) {
            break;
        }
    }
    let before = handle.stats();
    let running: Vec<_> = (0..8)
        .map(|branch| {
            let mut prompt = prefix.clone();
            prompt.extend(encode(&handle, &format!(" Branch number {branch} says:")));
            submit(&handle, prompt, Work::Generate(Box::new(greedy(8))))
        })
        .collect();
    for output in running.iter().map(collect) {
        assert_eq!(
            output.n_cached, 1000,
            "the whole prefix comes from the cache"
        );
    }
    let after = handle.stats();
    let cached = after.n_cached_tokens - before.n_cached_tokens;
    assert_eq!(cached, 8 * 1000);
}
