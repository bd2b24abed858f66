//! The same output whatever batch, cache, chunk, page size and preemption do.

use super::*;
use crate::{FinishReason, Sampling};

fn prompts() -> Vec<Vec<TokenId>> {
    (0..16)
        .map(|seed| prompt(seed % 3, seed, 20 + 13 * (seed as usize % 7)))
        .collect()
}

/// Runs the prompts together; returns their outputs and the engine.
fn run_all(setting: Setting, sampling: &Sampling, n_tokens: usize) -> (Vec<Finished>, Bench) {
    let mut bench = Bench::new(setting);
    let prompts = prompts();
    let request = Generate {
        sampling: sampling.clone(),
        ..at_most(n_tokens)
    };
    let ids: Vec<_> = prompts
        .iter()
        .map(|it| bench.generate(it, request.clone()))
        .collect();
    bench.run();
    (
        ids.into_iter().map(|id| bench.finished(id)).collect(),
        bench,
    )
}

fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for prefix_cache in [true, false] {
        for max_batch_tokens in [16, 17, 64, 512] {
            for (n_pages, page_size) in [(400, 16), (12, 16), (200, 1), (40, 5)] {
                settings.push(Setting {
                    n_pages,
                    page_size,
                    max_batch_tokens,
                    prefix_cache,
                    ..Setting::default()
                });
            }
        }
    }
    settings
}

#[test]
fn greedy_output_is_what_the_definition_says() {
    let mut n_preemptions = 0;
    for setting in settings() {
        let (outputs, bench) = run_all(setting, &Sampling::default(), 60);
        for (prompt, output) in prompts().iter().zip(&outputs) {
            assert_eq!(output.tokens, greedy_reference(prompt, 60));
        }
        n_preemptions += bench.core.stats().n_preemptions;
    }
    assert!(
        n_preemptions > 20,
        "the small pools must preempt: {n_preemptions}"
    );
}

#[test]
fn sampled_output_and_events_do_not_depend_on_the_company() {
    let sampling = Sampling {
        temperature: 0.9,
        top_p: 0.95,
        repetition_penalty: 1.1,
        frequency_penalty: 0.3,
        seed: 7,
        ..Sampling::default()
    };
    let mut alone = Vec::new();
    for prompt in prompts() {
        let mut bench = Bench::new(Setting {
            prefix_cache: false,
            ..Setting::default()
        });
        let id = bench.generate(
            &prompt,
            Generate {
                sampling: sampling.clone(),
                ..at_most(50)
            },
        );
        bench.run();
        alone.push(bench.finished(id));
    }
    for setting in settings() {
        let (outputs, _) = run_all(setting, &sampling, 50);
        for (output, alone) in outputs.iter().zip(&alone) {
            assert_eq!((&output.tokens, &output.text), (&alone.tokens, &alone.text));
            assert_eq!(output.reason, alone.reason);
        }
    }
}

#[test]
fn preemption_at_any_step_leaves_no_trace() {
    for prefix_cache in [true, false] {
        let setting = Setting {
            prefix_cache,
            max_batch_tokens: 16,
            ..Setting::default()
        };
        let mut bench = Bench::new(setting);
        let prompts = prompts();
        let ids: Vec<_> = prompts
            .iter()
            .map(|it| bench.generate(it, at_most(40)))
            .collect();
        for n_steps in 0..60 {
            (0..n_steps % 7).for_each(|_| bench.step());
            bench.core.scheduler.preempt_youngest();
        }
        bench.run();
        for (prompt, id) in prompts.iter().zip(ids) {
            assert_eq!(bench.finished(id).tokens, greedy_reference(prompt, 40));
        }
    }
}

#[test]
fn branches_compute_their_prefix_once() {
    let mut bench = Bench::new(Setting::default());
    let shared = prompt(1, 1, 201);
    let publish = Request {
        prompt: shared.clone(),
        namespace: 0,
        work: Work::Publish,
    };
    let published = bench.submit(publish).unwrap();
    bench.run();
    assert!(matches!(
        bench.events(published).last(),
        Some(Event::Published { .. })
    ));
    let n_before = bench.core.stats().n_computed_tokens;
    assert_eq!(n_before, 201);
    let branches: Vec<_> = (0..8)
        .map(|branch: TokenId| {
            let tokens: Vec<TokenId> = shared.iter().copied().chain([branch, 65, 66]).collect();
            (bench.generate(&tokens, at_most(1)), tokens)
        })
        .collect();
    bench.run();
    for (id, tokens) in branches {
        assert_eq!(bench.finished(id).tokens, greedy_reference(&tokens, 1));
        assert_eq!(bench.finished(id).usage.n_cached, 201);
    }
    let n_computed = bench.core.stats().n_computed_tokens - n_before;
    assert_eq!(n_computed, 8 * 3, "only what the branches add");
}

#[test]
fn a_prefix_that_runs_is_waited_for() {
    let mut bench = Bench::new(Setting {
        max_batch_tokens: 512,
        ..Setting::default()
    });
    let shared = prompt(1, 1, 160);
    let ids: Vec<_> = (0..6)
        .map(|branch: TokenId| {
            let tokens: Vec<TokenId> = shared.iter().copied().chain([branch]).collect();
            bench.generate(&tokens, at_most(4))
        })
        .collect();
    bench.run();
    let n_computed = bench.core.stats().n_computed_tokens;
    assert!(
        n_computed < 160 + 6 * 8,
        "one leader computes the prefix: {n_computed}"
    );
    assert!(
        ids.iter()
            .skip(1)
            .all(|&id| bench.finished(id).usage.n_cached == 160)
    );
}

#[test]
fn a_second_turn_reuses_the_first_with_its_output() {
    let mut bench = Bench::new(Setting::default());
    let first = prompt(1, 1, 50);
    let id = bench.generate(&first, at_most(30));
    bench.run();
    let answer = bench.finished(id).tokens;
    let second: Vec<TokenId> = first
        .iter()
        .chain(&answer)
        .copied()
        .chain([65; 5])
        .collect();
    let id = bench.generate(&second, at_most(5));
    bench.run();
    assert_eq!(bench.finished(id).tokens, greedy_reference(&second, 5));
    // The last token sampled was never computed, whatever it was.
    assert!(bench.finished(id).usage.n_cached >= 50 + answer.len() - 1);
}

#[test]
fn a_repeated_prompt_computes_its_last_token() {
    let mut bench = Bench::new(Setting::default());
    let tokens = prompt(1, 1, 48);
    for n_cached in [0, 47] {
        let id = bench.generate(&tokens, at_most(3));
        bench.run();
        let finished = bench.finished(id);
        assert_eq!(finished.tokens, greedy_reference(&tokens, 3));
        assert_eq!(finished.usage.n_cached, n_cached);
    }
}

#[test]
fn namespaces_do_not_share() {
    let mut bench = Bench::new(Setting::default());
    for namespace in [1, 2] {
        let request = generation(&prompt(1, 1, 48), at_most(3));
        let id = bench
            .submit(Request {
                namespace,
                ..request
            })
            .unwrap();
        bench.run();
        assert_eq!(bench.finished(id).usage.n_cached, 0);
    }
}

#[test]
fn the_end_token_ends_an_output_but_not_before_min_tokens() {
    let (mut n_ended, mut n_longer) = (0, 0);
    for seed in 0..40 {
        let tokens = prompt(seed, seed, 10);
        let mut bench = Bench::new(Setting::default());
        let free = bench.generate(&tokens, at_most(40));
        let held = bench.generate(
            &tokens,
            Generate {
                min_tokens: 40,
                ..at_most(40)
            },
        );
        bench.run();
        let (free, held) = (bench.finished(free), bench.finished(held));
        assert_eq!(held.tokens.len(), 40);
        assert!(!free.tokens.contains(&END) && !held.tokens.contains(&END));
        assert_eq!(free.reason == FinishReason::End, free.tokens.len() < 40);
        assert_eq!(free.tokens, held.tokens[..free.tokens.len()]);
        n_ended += usize::from(free.reason == FinishReason::End);
        n_longer += usize::from(free.tokens.len() < held.tokens.len());
    }
    assert!(
        n_ended > 3 && n_longer > 3,
        "the fake must end now and then: {n_ended}"
    );
}

#[test]
fn logprobs_are_those_of_the_raw_distribution() {
    let mut bench = Bench::new(Setting::default());
    let tokens = prompt(1, 1, 20);
    let sampling = Sampling {
        temperature: 1.5,
        repetition_penalty: 2.0,
        logit_bias: vec![(100, 5.0)],
        ..Sampling::default()
    };
    let request = Generate {
        sampling,
        n_top_logprobs: 4,
        ..at_most(12)
    };
    let id = bench.generate(&tokens, request);
    bench.run();
    let mut context = tokens;
    for event in bench.events(id) {
        let Event::Token(token) = event else { continue };
        let expected = reference_logprob(&context, token.id);
        assert!(
            (token.logprob - expected).abs() < 1e-4,
            "{} for {expected}",
            token.logprob
        );
        assert_eq!(token.top.len(), 4);
        let logits = logits_after(&context);
        let n_better = logits
            .iter()
            .filter(|&&it| it > logits[token.top[3].0 as usize])
            .count();
        assert_eq!(n_better, 3, "the fourth best comes fourth");
        context.push(token.id);
    }
}
