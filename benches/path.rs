//! Prefill, decode and masks on the default model, as criterion measures them. See docs/results.md.
//!
//! Each engine benchmark runs whole requests through the engine thread, so scheduling, sampling and the cache's
//! bookkeeping are in the figure. Prompts differ from one another in their first token: nothing is read from the cache.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lmrun_engine::{Engine, EngineOptions, Event, Generate, Handle, Request, Specials, Work};
use lmrun_grammar::{Constraint, Limits, Matcher, TokenMask};

fn engine() -> Engine {
    let path = lmrun::models::ensure_default().expect("the default model is there");
    let options = EngineOptions {
        prefix_cache: false,
        ..EngineOptions::default()
    };
    Engine::open(&path, &options).expect("the default model opens")
}

/// Runs `n` greedy requests at once to their end; the time from the first token of the last to start to the end.
fn run(handle: &Handle, prompt: &[u32], n: usize, max_tokens: usize) -> Duration {
    let (sender, receiver) = mpsc::channel();
    for _ in 0..n {
        let sender = sender.clone();
        let sink = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let generate = Generate {
            max_tokens: Some(max_tokens),
            min_tokens: max_tokens,
            ..Generate::default()
        };
        let work = Work::Generate(Box::new(generate));
        let request = Request {
            prompt: prompt.to_vec(),
            namespace: 0,
            work,
        };
        handle.submit(request, sink).expect("accepted");
    }
    let (mut n_first, mut n_finished, mut started) = (0, 0, Instant::now());
    let mut seen = 0;
    while n_finished < n {
        match receiver.recv().expect("the engine answers") {
            Event::Token(_) => {
                seen += 1;
                if n_first < n {
                    n_first += 1;
                    started = Instant::now();
                }
            }
            Event::Finished(_) => n_finished += 1,
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    black_box(seen);
    started.elapsed()
}

fn prefill(criterion: &mut Criterion) {
    let engine = engine();
    let handle = engine.handle();
    let text = include_str!("../LICENSE");
    let tokens = handle.tokenizer().encode(text, Specials::AsText);
    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(10);
    for n_tokens in [512, 2048] {
        let prompt = &tokens[..n_tokens];
        group.throughput(Throughput::Elements(n_tokens as u64));
        group.bench_function(n_tokens.to_string(), |bencher| {
            bencher.iter(|| run(&handle, prompt, 1, 1));
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    const N_TOKENS: usize = 64;
    let engine = engine();
    let handle = engine.handle();
    let prompt = handle
        .tokenizer()
        .encode("Once upon a time", Specials::AsText);
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(10);
    for n_sequences in [1, 16] {
        group.throughput(Throughput::Elements((n_sequences * N_TOKENS) as u64));
        group.bench_function(format!("{n_sequences}-sequences"), |bencher| {
            bencher.iter_custom(|n| {
                (0..n)
                    .map(|_| run(&handle, &prompt, n_sequences, N_TOKENS))
                    .sum()
            });
        });
    }
    group.finish();
}

fn masks(criterion: &mut Criterion) {
    let engine = engine();
    let vocabulary = Arc::clone(engine.handle().vocabulary());
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false
    });
    let document = r#"{"name":"Ada Lovelace","age":36,"tags":["a","c"]}"#;
    let tokens = engine
        .handle()
        .tokenizer()
        .encode(document, Specials::AsText);
    let mut group = criterion.benchmark_group("masks");
    group.bench_function("compile-schema", |bencher| {
        bencher.iter(|| Constraint::json_schema(black_box(&schema), &Limits::default()));
    });
    let constraint = Constraint::json_schema(&schema, &Limits::default()).expect("compiles");
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function("walk-document", |bencher| {
        bencher.iter(|| {
            let mut matcher =
                Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).expect("a matcher");
            for &token in &tokens {
                matcher.mask(&mut mask).expect("within limits");
                matcher.accept(token).expect("the document is valid");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, prefill, decode, masks);
criterion_main!(benches);
