//! Weights against the exponential; choices against a sampler that sorts everything, and by hand where logits are strange.
//! The distribution of draws is tested where draws are made, in the engine.

use proptest::prelude::*;

use super::*;
use crate::buffer::Buffer;
use crate::pool::Pool;

const ALL: Allowed<'static> = Allowed {
    n_tokens: usize::MAX,
    mask: None,
    banned: &[],
};
const PLAIN: Sampler = Sampler {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};

/// Tokens that are drawn at all, by the definition: sort, cut, add up in f64.
fn kept(row: &[f32], sampler: Sampler, allowed: Allowed<'_>) -> Vec<(u32, f64)> {
    let tokens = (0..row.len() as u32).filter(|&token| allowed.holds(token));
    let mut kept: Vec<(f32, u32)> = tokens
        .map(|token| (row[token as usize] / sampler.temperature, token))
        .filter(|(score, _)| *score > f32::NEG_INFINITY)
        .collect();
    kept.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
    if sampler.top_k > 0 {
        kept.truncate(sampler.top_k);
    }
    let max = kept[0].0;
    let weight = |score: f32| (f64::from(score) - f64::from(max)).exp();
    let total: f64 = kept.iter().map(|&(score, _)| weight(score)).sum();
    let mut reached = 0.0;
    kept.retain(|&(score, _)| {
        let is_kept = sampler.top_p >= 1.0 || reached < f64::from(sampler.top_p) * total;
        reached += weight(score);
        is_kept && weight(score) >= f64::from(sampler.min_p)
    });
    kept.sort_by_key(|&(_, token)| token);
    kept.iter()
        .map(|&(score, token)| (token, weight(score)))
        .collect()
}

#[test]
fn weights_are_exponentials() {
    assert_eq!(weight(0.0), 1 << 40);
    assert_eq!(weight(-0.0), 1 << 40);
    for step in 0..600_000 {
        let below = -(step as f32) / 20_000.0;
        let exact = f64::from(below).exp() * (1u64 << 40) as f64;
        let limit = 1.0 + 3e-7 * exact;
        let given = weight(below) as f64;
        let is_cut = below < -28.0 && given == 0.0;
        assert!(
            is_cut || (given - exact).abs() < limit,
            "{below}: {given} for {exact}"
        );
    }
    for nothing in [f32::NEG_INFINITY, f32::NAN, -1e30] {
        assert_eq!(weight(nothing), 0);
    }
}

proptest! {
    /// The middle of a token's share of the total draws that token, and no other share is left.
    #[test]
    fn shares_are_those_of_a_sorted_row(
        row in prop::collection::vec(-6.0f32..6.0, 1..900),
        (top_k, top_p, min_p) in (0..700usize, prop_oneof![Just(1.0f32), 0.05f32..1.0], prop_oneof![Just(0.0f32), 0.0f32..0.5]),
        temperature in 0.3f32..2.0,
        allowed_words in prop::collection::vec(any::<u64>(), 15),
        banned in prop::collection::vec(0..900u32, 0..3),
    ) {
        let sampler = Sampler { temperature, top_k, top_p, min_p };
        let allowed = Allowed { n_tokens: 880, mask: Some(&allowed_words), banned: &banned };
        let tokens = (0..row.len() as u32).filter(|&token| allowed.holds(token));
        prop_assume!(tokens.count() > 0 && !sampler.is_greedy());
        let kept = kept(&row, sampler, allowed);
        let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
        let mut before = 0.0;
        for (token, weight) in kept {
            // A cut where rounding decides moves shares by no more than the weight at it; the middles of large ones stay.
            if weight > 0.1 * total {
                let random = (before + weight / 2.0) / total;
                prop_assert_eq!(choose(&row, sampler, allowed, random), Some(token));
            }
            before += weight;
        }
    }

    #[test]
    fn the_highest_come_first(row in prop::collection::vec(prop_oneof![-2.0f32..2.0, Just(1.0), Just(f32::NAN)], 1..80), n in 0..90usize) {
        let given = highest(&row, n);
        let mut expected: Vec<u32> = (0..row.len() as u32).collect();
        let logit = |token: &u32| number_or_least(row[*token as usize]);
        expected.sort_by(|a, b| logit(b).partial_cmp(&logit(a)).unwrap());
        expected.truncate(n);
        prop_assert_eq!(given, expected);
    }
}

#[test]
fn zero_and_its_negative_are_equal() {
    let row = [-0.0, 0.0, -0.0];
    for top_k in [1, 2] {
        let sampler = Sampler { top_k, ..PLAIN };
        assert_eq!(choose(&row, sampler, ALL, 0.0), Some(0));
        assert_eq!(
            choose(&row, sampler, ALL, 0.99),
            Some(top_k as u32 - 1),
            "the lower ids are kept"
        );
    }
}

#[test]
fn random_ends_draw_the_first_and_the_last() {
    let row = [1.0, f32::NEG_INFINITY, 2.0, 0.5, f32::NAN];
    assert_eq!(choose(&row, PLAIN, ALL, 0.0), Some(0));
    let below_one = 1.0 - f64::EPSILON / 2.0;
    assert_eq!(choose(&row, PLAIN, ALL, below_one), Some(3));
}

#[test]
fn the_smallest_nucleus_is_one_token() {
    for top_p in [0.0, 1e-9] {
        let sampler = Sampler { top_p, ..PLAIN };
        assert_eq!(choose(&[1.0, 3.0, 3.0], sampler, ALL, 0.99), Some(1));
    }
}

#[test]
fn a_short_mask_allows_nothing_beyond_it() {
    let row = vec![0.0; 130];
    let allowed = Allowed {
        mask: Some(&[0, 1 << 63]),
        ..ALL
    };
    assert_eq!(choose(&row, PLAIN, allowed, 0.7), Some(127));
    let none = Allowed {
        banned: &[127],
        ..allowed
    };
    assert_eq!(choose(&row, PLAIN, none, 0.7), None);
}

#[test]
fn an_adjustment_is_a_penalty_and_then_a_bias() {
    let adjustment = Adjustment {
        token: 1,
        repetition: 2.0,
        less: 0.5,
        more: 3.0,
    };
    let mut row = [1.0, 4.0];
    adjustment.apply(&mut row);
    assert_eq!(row, [1.0, 4.5]);
    assert_eq!(adjustment.of(-4.0), -5.5);
    Adjustment {
        token: 2,
        ..adjustment
    }
    .apply(&mut row);
    assert_eq!(row, [1.0, 4.5], "a token without a logit");
}

#[test]
fn a_row_without_a_finite_logit_gives_its_first_allowed_token_and_no_probability() {
    let row = [f32::NAN, f32::NEG_INFINITY, f32::NAN];
    for temperature in [0.0, 1.0] {
        let sampler = Sampler {
            temperature,
            ..Sampler::default()
        };
        for (mask, banned, expected) in [
            (None, vec![], 0),
            (None, vec![0], 1),
            (Some(&[6u64][..]), vec![], 1),
            (Some(&[6][..]), vec![1], 2),
        ] {
            let allowed = Allowed {
                n_tokens: usize::MAX,
                mask,
                banned: &banned,
            };
            assert_eq!(choose(&row, sampler, allowed, 0.5), Some(expected));
        }
    }
    for logit in row {
        assert_eq!(logprob(logit, crate::log_sum_exp(&row)), f32::NEG_INFINITY);
    }
}

#[test]
fn rows_are_drawn_by_all_threads_as_by_one() {
    const WIDTH: usize = 300;
    let logits: Vec<f32> = (0..7 * WIDTH)
        .map(|i| (i * 7919 % 1013) as f32 / 100.0)
        .collect();
    let draws: Vec<Draw<'_>> = [6, 0, 3, 5, 1]
        .into_iter()
        .map(|row_idx| Draw {
            row_idx,
            adjustments: &[],
            allowed: ALL,
            sampler: PLAIN,
            random: row_idx as f64 / 7.0,
            wants_logprob: true,
        })
        .collect();
    let mut buffer = Buffer::new(WIDTH);
    buffer.assign(&logits);
    let drawn = buffer.sample(&draws, &mut Pool::new(3));
    for (draw, drawn) in draws.iter().zip(drawn) {
        let mut row = logits[draw.row_idx * WIDTH..][..WIDTH].to_vec();
        assert_eq!(drawn, draw.of(&mut row), "row {}", draw.row_idx);
    }
    assert_eq!(buffer.values(), logits, "rows are left as they were");
}
