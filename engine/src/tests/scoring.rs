//! Scores against teacher forcing by the definition.

use super::*;
use crate::scheduler::Lane;
use crate::score::Scoring;

fn score(prompt: &[TokenId], continuations: &[Vec<TokenId>]) -> Request {
    let work = Work::Score(continuations.to_vec());
    Request {
        prompt: prompt.to_vec(),
        namespace: 0,
        work,
    }
}

fn assert_scores(prompt: &[TokenId], continuations: &[Vec<TokenId>], events: &[Event]) {
    let Some(Event::Scored { logprobs, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(logprobs.len(), continuations.len());
    for (tokens, logprobs) in continuations.iter().zip(logprobs) {
        assert_eq!(tokens.len(), logprobs.len());
        let mut context = prompt.to_vec();
        for (&token, &given) in tokens.iter().zip(logprobs) {
            let expected = reference_logprob(&context, token);
            assert!((given - expected).abs() < 1e-4, "{given} for {expected}");
            context.push(token);
        }
    }
}

fn continuations(seed: u64) -> Vec<Vec<TokenId>> {
    let mut all: Vec<Vec<TokenId>> = (0..7)
        .map(|idx| prompt(seed, idx, 3 + 5 * idx as usize))
        .collect();
    all.push(all[5][..9].to_vec());
    all.push(all[5].clone());
    all.push(vec![]);
    all.push(vec![5]);
    all.push([&all[6][..20], &[1, 2, 3]].concat());
    all
}

#[test]
fn scores_equal_teacher_forcing() {
    for prefix_cache in [true, false] {
        for (page_size, n_pages) in [(16, 60), (4, 140), (1, 400)] {
            for max_batch_tokens in [7, 64, 512] {
                let setting = Setting {
                    n_pages,
                    page_size,
                    max_batch_tokens,
                    prefix_cache,
                    ..Setting::default()
                };
                let mut bench = Bench::new(setting);
                let mut expected = Vec::new();
                for seed in 0..4 {
                    let prompt = prompt(seed / 2, seed, 61);
                    let continuations = continuations(seed);
                    let id = bench.submit(score(&prompt, &continuations)).unwrap();
                    bench.generate(&prompt, at_most(40));
                    expected.push((id, prompt, continuations));
                }
                bench.run();
                for (id, prompt, continuations) in expected {
                    assert_scores(&prompt, &continuations, &bench.events(id));
                }
            }
        }
    }
}

#[test]
fn scoring_survives_preemption() {
    for prefix_cache in [true, false] {
        let setting = Setting {
            max_batch_tokens: 7,
            prefix_cache,
            ..Setting::default()
        };
        let mut bench = Bench::new(setting);
        let tokens = prompt(9, 9, 61);
        let id = bench.submit(score(&tokens, &continuations(1))).unwrap();
        for n_steps in 0..40 {
            (0..n_steps % 17).for_each(|_| bench.step());
            bench.core.scheduler.preempt_youngest();
        }
        bench.run();
        assert_scores(&tokens, &continuations(1), &bench.events(id));
        assert!(bench.core.stats().n_preemptions > 5);
    }
}

#[test]
fn shared_tokens_are_computed_once() {
    let continuations = [
        vec![1, 2, 3, 4],
        vec![1, 2, 3, 9],
        vec![1, 2, 7, 7, 7],
        vec![8],
    ];
    let (_, lanes) = Scoring::new(vec![0; 10], &continuations);
    let mut shapes: Vec<_> = lanes
        .iter()
        .map(|Lane { start, tokens, .. }| (*start, tokens.clone()))
        .collect();
    shapes.sort();
    assert_eq!(
        shapes,
        [
            (0, vec![0; 10]),
            (10, vec![1, 2]),
            (12, vec![3]),
            (12, vec![7, 7])
        ],
        "last tokens need no KV"
    );
    let mut bench = Bench::new(Setting::default());
    bench
        .submit(score(&prompt(1, 1, 33), &continuations))
        .unwrap();
    bench.run();
    assert_eq!(bench.core.stats().n_computed_tokens, 33 + 5);
}

#[test]
fn nothing_to_score_is_no_trouble() {
    let mut bench = Bench::new(Setting::default());
    let tokens = prompt(1, 1, 33);
    let requests = [vec![], vec![vec![]], vec![vec![], vec![7]]];
    for continuations in requests.iter().chain(&requests) {
        let id = bench.submit(score(&tokens, continuations)).unwrap();
        bench.run();
        assert_scores(&tokens, continuations, &bench.events(id));
    }
}
