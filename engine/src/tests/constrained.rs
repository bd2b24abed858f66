//! Constraints, stop strings and budgets, through the whole engine.

use lmrun_grammar::{Constraint, Limits};

use super::*;
use crate::{FinishReason, Sampling};

fn regex(pattern: &str) -> Constraint {
    Constraint::regex(pattern, &Limits::default()).unwrap()
}

fn constrained(constraint: Constraint, max_tokens: Option<usize>, seed: u64) -> Generate {
    let sampling = Sampling {
        temperature: 1.0,
        seed,
        ..Sampling::default()
    };
    Generate {
        constraint: Some(constraint),
        max_tokens,
        sampling,
        ..Generate::default()
    }
}

#[test]
fn an_output_matches_its_constraint() {
    for seed in 0..20 {
        let mut bench = Bench::new(Setting::default());
        let request = constrained(regex("x(ab|c)+[0-9]{2}"), Some(30), seed);
        let id = bench.generate(&prompt(seed, seed, 12), request);
        bench.run();
        let text = bench.text(id);
        let body = text.strip_prefix('x').unwrap();
        let (body, digits) = body.split_at(body.len() - 2);
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        assert!(!body.is_empty() && body.replace("ab", "c").bytes().all(|byte| byte == b'c'));
        assert_eq!(bench.finished(id).reason, FinishReason::End);
    }
}

#[test]
fn forced_tokens_cost_no_step_of_their_own() {
    let mut bench = Bench::new(Setting::default());
    let tokens = prompt(1, 1, 12);
    let id = bench.generate(&tokens, constrained(regex("xyz(7|8)uvw"), None, 1));
    bench.run();
    let finished = bench.finished(id);
    assert_eq!(finished.reason, FinishReason::End);
    assert_eq!(finished.usage.n_forced, 6, "all but the digit");
    let mut context = tokens;
    for event in bench.events(id) {
        let Event::Token(token) = event else { continue };
        assert_eq!(token.forced, !matches!(token.id, 55 | 56));
        assert!((token.logprob - reference_logprob(&context, token.id)).abs() < 1e-4);
        context.push(token.id);
    }
    assert_eq!(
        bench.core.stats().n_steps,
        2,
        "before the digit, and after it"
    );
}

#[test]
fn a_constrained_output_ends_within_its_budget() {
    for max_tokens in 3..14 {
        for seed in 0..20 {
            let mut bench = Bench::new(Setting::default());
            let request = constrained(regex("<(a{5}|b)*>!"), Some(max_tokens), seed);
            let id = bench.generate(&prompt(seed, seed, 12), request);
            bench.run();
            let text = bench.text(id);
            let inner = text.strip_prefix('<').and_then(|it| it.strip_suffix(">!"));
            let inner = inner.unwrap_or_else(|| panic!("cut: {text:?} at {max_tokens}"));
            assert!(
                inner.replace("aaaaa", "b").bytes().all(|byte| byte == b'b'),
                "{text}"
            );
            assert!(bench.finished(id).tokens.len() <= max_tokens);
        }
    }
}

#[test]
fn a_budget_below_the_shortest_output_is_refused() {
    let mut bench = Bench::new(Setting::default());
    let request = generation(&[1], constrained(regex("abcde"), Some(1), 0));
    let refused = bench.submit(request).unwrap_err();
    assert!(
        matches!(refused, RequestError::BudgetTooSmall { limit: 1, .. }),
        "{refused:?}"
    );
}

#[test]
fn end_tokens_come_exactly_where_the_output_is_complete() {
    let mut lengths = BTreeSet::new();
    for seed in 0..40 {
        let mut bench = Bench::new(Setting::default());
        let id = bench.generate(
            &prompt(1, 1, 12),
            constrained(regex("(a|b|c)*"), Some(20), seed),
        );
        bench.run();
        let finished = bench.finished(id);
        assert!(bench.text(id).bytes().all(|byte| byte.is_ascii_lowercase()));
        let is_end = finished.reason == FinishReason::End;
        assert!(is_end || finished.tokens.len() == 20, "{finished:?}");
        lengths.insert(finished.tokens.len());
    }
    assert!(
        lengths.len() > 4,
        "outputs end where the sampler says: {lengths:?}"
    );
}

#[test]
fn the_constraint_outweighs_min_tokens() {
    let mut bench = Bench::new(Setting::default());
    let request = constrained(regex("ab"), Some(9), 0);
    let id = bench.generate(
        &[1, 2, 3],
        Generate {
            min_tokens: 5,
            ..request
        },
    );
    bench.run();
    assert_eq!(bench.text(id), "ab");
    assert_eq!(bench.finished(id).reason, FinishReason::End);
}

#[test]
fn constraints_survive_preemption() {
    let outputs = |n_pages| {
        let setting = Setting {
            n_pages,
            page_size: 4,
            ..Setting::default()
        };
        let mut bench = Bench::new(setting);
        let constraint = regex("([a-d]{3}-){20}");
        let ids: Vec<_> = (0..6)
            .map(|seed| {
                let request = constrained(constraint.clone(), Some(80), seed);
                bench.generate(&prompt(seed, seed, 12), request)
            })
            .collect();
        bench.run();
        let texts: Vec<String> = ids.iter().map(|&id| bench.text(id)).collect();
        (texts, bench.core.stats().n_preemptions)
    };
    let (roomy, n_none) = outputs(400);
    let (tight, n_some) = outputs(36);
    assert_eq!(roomy, tight);
    assert!(
        n_none == 0 && n_some > 0,
        "{n_none} and {n_some} preemptions"
    );
    assert!(roomy.iter().all(|text| text.len() == 80));
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let mut n_stopped = 0;
    for seed in 0..60 {
        let tokens = prompt(seed, seed, 12);
        let whole = greedy_reference(&tokens, 40);
        let vocabulary = vocabulary();
        let bytes: Vec<u8> = whole
            .iter()
            .flat_map(|&id| vocabulary.bytes(id).unwrap_or_default().to_vec())
            .collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let stops = ["abc", "ca", "dd"];
        let found = stops
            .iter()
            .filter_map(|stop| Some((text.find(stop)?, *stop)))
            .min();
        let mut bench = Bench::new(Setting::default());
        let stop = stops.map(String::from).to_vec();
        let id = bench.generate(
            &tokens,
            Generate {
                stop,
                ..at_most(40)
            },
        );
        bench.run();
        let finished = bench.finished(id);
        match found {
            None => assert_eq!(bench.text(id), text),
            Some((at, stop)) => {
                n_stopped += 1;
                assert_eq!(bench.text(id), text[..at]);
                assert_eq!(finished.reason, FinishReason::Stop(stop.into()));
                assert!(whole.starts_with(&finished.tokens));
            }
        }
    }
    assert!(n_stopped > 20, "stops must be met: {n_stopped}");
}
