//! The sampler against a naive one that sorts everything and computes in f64, and its draws against its probabilities.

use lmrun_grammar::TokenMask;
use lmrun_kernels::Allowed;
use proptest::prelude::*;

use super::*;

/// A choice by a request's settings.
fn choose(row: &[f32], sampling: &Sampling, allowed: Allowed<'_>, random: f64) -> Option<TokenId> {
    lmrun_kernels::choose(row, sampler_of(sampling), allowed, random)
}

const ALL: Allowed<'static> = Allowed {
    n_tokens: usize::MAX,
    mask: None,
    banned: &[],
};

/// Probabilities by the definition: sort, cut, normalise.
fn reference(row: &[f32], sampling: &Sampling, allowed: Allowed<'_>) -> Vec<f64> {
    let mut kept: Vec<(f64, usize)> = row
        .iter()
        .enumerate()
        .filter(|&(token, logit)| allowed.holds(token as TokenId) && !logit.is_nan())
        .map(|(token, &logit)| (f64::from(logit / sampling.temperature), token))
        .collect();
    kept.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if sampling.top_k > 0 {
        kept.truncate(sampling.top_k);
    }
    let max = kept[0].0;
    let total: f64 = kept.iter().map(|&(score, _)| (score - max).exp()).sum();
    let mut reached = 0.0;
    let mut probabilities = vec![0.0; row.len()];
    for &(score, token) in &kept {
        let is_nucleus = reached < f64::from(sampling.top_p) * total || sampling.top_p >= 1.0;
        if is_nucleus && (score - max).exp() >= f64::from(sampling.min_p) {
            probabilities[token] = (score - max).exp();
        }
        reached += (score - max).exp();
    }
    let total: f64 = probabilities.iter().sum();
    probabilities.iter().map(|weight| weight / total).collect()
}

fn row(seed: u64, n_tokens: usize) -> Vec<f32> {
    (0..n_tokens as u64)
        .map(|token| (uniform(seed, token, 3) * 8.0) as f32)
        .collect()
}

/// Frequencies of many draws.
fn frequencies(row: &[f32], sampling: &Sampling, allowed: Allowed<'_>) -> Vec<f64> {
    const N_DRAWS: u64 = 40_000;
    let mut counts = vec![0.0; row.len()];
    for position in 0..N_DRAWS {
        let random = uniform(sampling.seed, position, 0);
        let token = choose(row, sampling, allowed, random).unwrap();
        counts[token as usize] += 1.0 / N_DRAWS as f64;
    }
    counts
}

#[test]
fn draws_follow_the_reference_distribution() {
    let plain = Sampling {
        temperature: 1.0,
        ..Sampling::default()
    };
    let settings = [
        plain.clone(),
        Sampling {
            temperature: 0.5,
            seed: 9,
            ..plain.clone()
        },
        Sampling {
            top_k: 4,
            ..plain.clone()
        },
        Sampling {
            top_p: 0.7,
            ..plain.clone()
        },
        Sampling {
            min_p: 0.2,
            ..plain.clone()
        },
        Sampling {
            temperature: 1.3,
            top_k: 10,
            top_p: 0.9,
            min_p: 0.05,
            ..plain
        },
    ];
    for (seed, sampling) in settings.iter().enumerate() {
        let row = row(seed as u64, 24);
        let mut mask = TokenMask::new(24);
        (0..24)
            .filter(|token| token % 3 != 1)
            .for_each(|token| mask.allow(token));
        for allowed in [
            ALL,
            Allowed {
                mask: Some(mask.words()),
                banned: &[0, 5],
                ..ALL
            },
        ] {
            let expected = reference(&row, sampling, allowed);
            let drawn = frequencies(&row, sampling, allowed);
            for (token, (expected, drawn)) in expected.iter().zip(&drawn).enumerate() {
                assert!(*expected > 0.0 || *drawn == 0.0, "token {token} was cut");
                assert!(
                    (expected - drawn).abs() < 0.01,
                    "{token}: {drawn} for {expected}"
                );
            }
        }
    }
}

#[test]
fn a_large_vocabulary_is_cut_like_a_small_one() {
    let row = row(4, 5000);
    for (top_p, top_k) in [(0.05, 0), (0.5, 0), (0.999, 0), (0.9, 3000), (1.0, 1700)] {
        let sampling = Sampling {
            temperature: 1.0,
            top_p,
            top_k,
            ..Sampling::default()
        };
        let expected = reference(&row, &sampling, ALL);
        let mut sum = 0.0;
        for (token, probability) in expected.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            let chosen = choose(&row, &sampling, ALL, sum + probability / 2.0);
            assert_eq!(chosen, Some(token as TokenId), "the middle of its share");
            sum += probability;
        }
    }
}

#[test]
fn draws_are_uniform_and_independent() {
    const N: u64 = 100_000;
    let mut bins = [0u32; 10];
    let mut products = 0.0;
    for position in 0..N {
        let (a, b) = (uniform(1, position, 0), uniform(1, position + 1, 0));
        bins[(a * 10.0) as usize] += 1;
        products += (a - 0.5) * (b - 0.5);
        assert!((0.0..1.0).contains(&a));
    }
    assert!(
        bins.iter().all(|&n| (9_600..10_400).contains(&n)),
        "{bins:?}"
    );
    assert!(
        (products / N as f64).abs() < 0.001,
        "neighbours are not correlated"
    );
    assert_ne!(uniform(1, 5, 0), uniform(1, 5, 1));
    assert_ne!(uniform(1, 5, 0), uniform(5, 1, 0));
}

#[test]
fn ties_go_to_the_lowest_id() {
    let row = [1.0, 3.0, 3.0, 2.0];
    assert_eq!(choose(&row, &Sampling::default(), ALL, 0.9), Some(1));
    let mut mask = TokenMask::new(4);
    [2, 3].into_iter().for_each(|token| mask.allow(token));
    let allowed = Allowed {
        mask: Some(mask.words()),
        ..ALL
    };
    assert_eq!(choose(&row, &Sampling::default(), allowed, 0.9), Some(2));
    let one = Sampling {
        temperature: 1.0,
        top_k: 1,
        ..Sampling::default()
    };
    assert_eq!(choose(&row, &one, ALL, 0.9), Some(1));
}

#[test]
fn strange_logits_are_survived() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let hot = Sampling {
        temperature: 1.0,
        top_p: 0.9,
        min_p: 0.1,
        ..Sampling::default()
    };
    for sampling in [Sampling::default(), hot] {
        assert_eq!(choose(&[nan, 1.0, nan], &sampling, ALL, 0.5), Some(1));
        assert_eq!(choose(&[0.0, inf, 5.0], &sampling, ALL, 0.5), Some(1));
        assert_eq!(choose(&[-inf, -inf, 0.0], &sampling, ALL, 0.5), Some(2));
        assert_eq!(choose(&[nan, nan], &sampling, ALL, 0.5), Some(0));
        assert_eq!(choose(&[-inf, -inf], &sampling, ALL, 0.5), Some(0));
        let banned = Allowed {
            banned: &[0],
            ..ALL
        };
        assert_eq!(choose(&[nan, -inf], &sampling, banned, 0.5), Some(1));
        assert_eq!(
            choose(
                &[1.0],
                &sampling,
                Allowed {
                    n_tokens: 0,
                    mask: Some(TokenMask::new(1).words()),
                    banned: &[]
                },
                0.5
            ),
            None
        );
    }
    for row in [[nan, 1.0], [inf, 1.0], [-inf, -inf], [nan, nan]] {
        let log_sum = log_sum_exp(&row);
        let logprob = logprob(&row, 0, log_sum);
        assert!(!logprob.is_nan() && logprob <= 0.0, "{row:?}: {logprob}");
    }
}

#[test]
fn penalties_and_bias_do_what_they_say() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(3, 10.0), (900, 1.0)],
        ..Sampling::default()
    };
    let mut counts = TokenCounts::new(&sampling, &[0, 1]);
    [1, 2, 2].into_iter().for_each(|token| counts.push(token));
    let mut row = [4.0, -4.0, 4.0, 0.0, 1.0];
    for adjustment in adjustments(&sampling, &counts) {
        adjustment.apply(&mut row);
    }
    assert_eq!(row, [2.0, -8.0 - 0.75, 2.0 - 1.0, 10.0, 1.0]);
}

#[test]
fn the_best_alternatives_come_best_first() {
    let row = [1.0, 5.0, f32::NAN, 5.0, 2.0];
    let log_sum = log_sum_exp(&[1.0, 5.0, 5.0, 2.0]);
    let top = top_logprobs(&row, 3, log_sum);
    assert_eq!(
        top.iter().map(|&(token, _)| token).collect::<Vec<_>>(),
        [1, 3, 4]
    );
    assert!((top[0].1 - (5.0 - log_sum)).abs() < 1e-6);
    assert!(top_logprobs(&row, 0, log_sum).is_empty());
}

proptest! {
    #[test]
    fn log_sum_exp_is_exact_to_f32(row in prop::collection::vec(-60.0f32..60.0, 1..300)) {
        let exact = row.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        prop_assert!((f64::from(log_sum_exp(&row)) - exact).abs() < 1e-5 * exact.abs().max(1.0));
    }
}
