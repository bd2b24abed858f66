//! Too little memory, nobody listening, panics, refusals: nothing leaks, nobody starves, all end.

use super::*;
use crate::{FinishReason, Sampling};

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 += 1;
        (mix(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 20) as usize % limit
    }
}

fn random_request(random: &mut Random) -> Request {
    let family = random.below(3) as u64;
    let seed = random.below(1000) as u64;
    let n_prompt = 1 + random.below(70);
    let prompt = prompt(family, seed, n_prompt);
    let work = match random.below(8) {
        0 => Work::Publish,
        1 => {
            let continuation = |idx: u64| super::prompt(idx / 2, idx, 1 + idx as usize);
            Work::Score((0..random.below(5) as u64).map(continuation).collect())
        }
        _ => {
            let sampling = Sampling {
                temperature: 1.0,
                seed,
                ..Sampling::default()
            };
            Work::Generate(Box::new(Generate {
                sampling,
                ..at_most(random.below(60))
            }))
        }
    };
    Request {
        prompt,
        namespace: random.below(2) as u64,
        work,
    }
}

fn is_end(event: &Event) -> bool {
    !matches!(event, Event::Started { .. } | Event::Token(_))
}

/// Arrivals, cancellations and departures at random, in a pool that holds little more than one request.
fn random_trace(seed: u64, setting: Setting) -> u64 {
    let mut random = Random(seed << 32);
    let mut bench = Bench::new(setting);
    let mut ids = Vec::new();
    for _ in 0..400 {
        if random.below(4) == 0 {
            let n_heard = if random.below(4) == 0 {
                1 + random.below(6)
            } else {
                usize::MAX
            };
            let request = random_request(&mut random);
            let id = bench.submit_heard(request, n_heard).unwrap();
            ids.push((id, n_heard, false));
        }
        if !ids.is_empty() && random.below(12) == 0 {
            let chosen = random.below(ids.len());
            bench.cancel(ids[chosen].0);
            ids[chosen].2 = true;
        }
        if random.below(25) == 0 {
            bench.core.scheduler.preempt_youngest();
        }
        bench.step();
    }
    bench.run();
    for (id, n_heard, is_cancelled) in ids {
        let events = bench.events(id);
        let n_ends = events.iter().filter(|event| is_end(event)).count();
        let has_left = events.len() >= n_heard;
        assert!(events.len() <= n_heard, "nothing is told to one who left");
        assert!(n_ends == 1 && is_end(events.last().unwrap()) || has_left && n_ends == 0);
        let failed = events.iter().any(|event| matches!(event, Event::Failed(_)));
        assert!(
            !failed,
            "every request fits alone, so none may fail: {events:?}"
        );
        let cancelled = events.iter().any(
            |event| matches!(event, Event::Finished(it) if it.reason == FinishReason::Cancelled),
        );
        assert!(is_cancelled || !cancelled);
    }
    bench.core.stats().n_preemptions
}

#[test]
fn random_traces_end_without_a_leak() {
    let mut n_preemptions = 0;
    for seed in 0..12 {
        let (n_pages, page_size) = [(12, 16), (40, 4), (140, 1), (60, 16)][seed as usize % 4];
        let setting = Setting {
            n_pages,
            page_size,
            max_batch_tokens: [16, 40, 200][seed as usize % 3],
            max_running: [2, 8, 32][seed as usize / 4],
            prefix_cache: seed % 5 != 0,
            ..Setting::default()
        };
        n_preemptions += random_trace(seed, setting);
    }
    assert!(n_preemptions > 50, "memory must be short: {n_preemptions}");
}

#[test]
fn a_large_request_is_not_overtaken_for_ever() {
    let mut bench = Bench::new(Setting {
        n_pages: 12,
        ..Setting::default()
    });
    for seed in 0..4 {
        bench.generate(&prompt(seed, seed, 20), at_most(20));
    }
    let large = bench.generate(&prompt(9, 9, 150), at_most(20));
    let mut n_arrived = 4;
    while bench.events(large).is_empty() {
        bench.step();
        if bench.core.stats().n_waiting < 3 {
            n_arrived += 1;
            bench.generate(&prompt(n_arrived, n_arrived, 20), at_most(20));
        }
        assert!(n_arrived < 100, "the large request starves");
    }
    bench.run();
}

#[test]
fn a_cancelled_request_frees_its_pages_at_once() {
    let mut bench = Bench::new(Setting {
        prefix_cache: false,
        ..Setting::default()
    });
    let id = bench.generate(&prompt(1, 1, 100), at_most(100));
    (0..10).for_each(|_| bench.step());
    assert!(bench.core.stats().n_pages_held > 6);
    bench.cancel(id);
    bench.assert_nothing_leaks();
    assert_eq!(bench.core.stats().n_pages_free, 400);
    assert_eq!(bench.finished(id).reason, FinishReason::Cancelled);
    assert!(!bench.finished(id).tokens.is_empty());
    bench.cancel(id);
}

#[test]
fn one_who_leaves_frees_pages_within_a_step() {
    for n_heard in [1, 2, 5] {
        let mut bench = Bench::new(Setting::default());
        let request = generation(
            &prompt(1, 1, 100),
            Generate {
                min_tokens: 50,
                ..at_most(100)
            },
        );
        let id = bench.submit_heard(request, n_heard).unwrap();
        while bench.events(id).len() < n_heard {
            bench.step();
        }
        bench.assert_nothing_leaks();
        assert_eq!(bench.events(id).len(), n_heard);
    }
}

#[test]
fn a_sink_that_panics_harms_nobody() {
    let mut bench = Bench::new(Setting::default());
    let prepared = bench
        .limits
        .prepare(generation(&prompt(1, 1, 9), at_most(9)))
        .unwrap();
    bench.core.add(
        RequestId(99),
        prepared,
        Box::new(|_| panic!("as the test wants it")),
    );
    let id = bench.generate(&prompt(2, 2, 9), at_most(9));
    bench.run();
    assert_eq!(
        bench.finished(id).tokens,
        greedy_reference(&prompt(2, 2, 9), 9)
    );
}

#[test]
fn a_failed_step_loses_its_batch_and_nothing_else() {
    for (panics_at, fails_at) in [(Some(6), None), (None, Some(6))] {
        let setting = Setting {
            max_running: 3,
            panics_at,
            fails_at,
            ..Setting::default()
        };
        let mut bench = Bench::new(setting);
        let prompts: Vec<_> = (0..9).map(|seed| prompt(0, seed, 30)).collect();
        let request = Generate {
            min_tokens: 20,
            ..at_most(20)
        };
        let ids: Vec<_> = prompts
            .iter()
            .map(|it| bench.generate(it, request.clone()))
            .collect();
        bench.run();
        let is_lost = |id: &RequestId| {
            bench.events(*id).last() == Some(&Event::Failed(RequestError::Internal))
        };
        let n_lost = ids.iter().filter(|id| is_lost(id)).count();
        assert_eq!((n_lost, bench.core.stats().n_failed_steps), (3, 1));
        let cold = Setting {
            prefix_cache: false,
            ..Setting::default()
        };
        for (prompt, &id) in prompts.iter().zip(&ids).filter(|(_, id)| !is_lost(id)) {
            let mut alone = Bench::new(cold);
            let reference = alone.generate(prompt, request.clone());
            alone.run();
            assert_eq!(bench.finished(id).tokens, alone.finished(reference).tokens);
        }
    }
}

/// Asserts that a request is refused with a message that holds `part`.
fn assert_refused(request: Request, part: &str) {
    let mut bench = Bench::new(Setting {
        n_pages: 10,
        ..Setting::default()
    });
    let message = bench.submit(request).unwrap_err().to_string();
    assert!(
        message.contains(part),
        "{message:?} says nothing of {part:?}"
    );
}

#[test]
fn prompts_that_cannot_run_are_refused_with_both_sides() {
    assert_refused(generation(&[], at_most(1)), "empty");
    assert_refused(generation(&[9999], at_most(1)), "9999");
    assert_refused(generation(&[262], at_most(1)), "262");
    assert_refused(
        generation(&[1; 401], at_most(1)),
        "401 tokens, the model's limit is 400",
    );
    assert_refused(generation(&[1; 300], at_most(101)), "401");
    assert_refused(
        generation(&[1; 100], at_most(100)),
        "208 tokens of KV memory",
    );
    let work = Work::Score(vec![vec![1], vec![1, 300]]);
    assert_refused(
        Request {
            prompt: vec![1],
            namespace: 0,
            work,
        },
        "300",
    );
    let work = Work::Score(vec![vec![]; 5000]);
    assert_refused(
        Request {
            prompt: vec![1],
            namespace: 0,
            work,
        },
        "5000",
    );
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let plain = at_most(1);
    let refused = |generate, part| assert_refused(generation(&[1], generate), part);
    refused(
        Generate {
            n_top_logprobs: 21,
            ..plain.clone()
        },
        "21",
    );
    refused(
        Generate {
            stop: vec![String::new()],
            ..plain.clone()
        },
        "empty",
    );
    refused(
        Generate {
            stop: vec!["x".into(); 65],
            ..plain.clone()
        },
        "65",
    );
    refused(
        Generate {
            stop: vec!["x".repeat(2000)],
            ..plain.clone()
        },
        "2000",
    );
    let refused = |change: fn(&mut Sampling), part| {
        let mut generate = plain.clone();
        change(&mut generate.sampling);
        assert_refused(generation(&[1], generate), part);
    };
    refused(|it| it.temperature = f32::NAN, "temperature is NaN");
    refused(|it| it.temperature = -1.0, "temperature is -1");
    refused(|it| it.top_p = 0.0, "top_p is 0");
    refused(|it| it.min_p = 1.5, "min_p is 1.5");
    refused(
        |it| it.presence_penalty = f32::INFINITY,
        "presence_penalty is inf",
    );
    refused(|it| it.repetition_penalty = 0.0, "repetition_penalty is 0");
    refused(|it| it.logit_bias = vec![(700, 1.0)], "token 700");
    refused(
        |it| it.logit_bias = vec![(7, f32::NAN)],
        "a logit bias is NaN",
    );
}

#[test]
fn an_output_without_a_limit_runs_to_the_end_of_the_context() {
    let mut bench = Bench::new(Setting::default());
    let request = Generate {
        min_tokens: 1000,
        ..Generate::default()
    };
    let id = bench.generate(&prompt(1, 1, 30), request);
    bench.run();
    assert_eq!(bench.finished(id).tokens.len(), CONTEXT_LENGTH - 30);
    assert_eq!(bench.finished(id).reason, FinishReason::Length);
}

#[test]
fn an_output_of_no_tokens_is_an_output() {
    let mut bench = Bench::new(Setting::default());
    let id = bench.generate(&prompt(1, 1, 30), at_most(0));
    bench.run();
    assert!(bench.finished(id).tokens.is_empty());
    assert_eq!(bench.finished(id).reason, FinishReason::Length);
}
