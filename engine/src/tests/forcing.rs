//! Tokens planned ahead, dead ends and budgets, for every kind of constraint.

use lmrun_grammar::{
    Constraint, Limits, Matcher, StructuralTag, StructuralTags, TokenMask, Vocabulary,
};

use super::*;
use crate::{FinishReason, Sampling};

fn schema(source: &str) -> Constraint {
    let schema = serde_json::from_str(source).unwrap();
    Constraint::json_schema(&schema, &Limits::default()).unwrap()
}

/// One constraint of each kind, and schemas that force much.
fn constraints() -> Vec<(&'static str, Constraint)> {
    let limits = Limits::default();
    let person = r#"{"type": "object", "required": ["name", "tags", "cc"], "properties": {
        "name": {"type": "string", "maxLength": 9}, "ab": {"const": "abcabc"},
        "tags": {"type": "array", "items": {"enum": ["abca", "ccab", "d"]}, "minItems": 1}, "cc": {"type": "integer"}}}"#;
    let union = r##"{"anyOf": [{"type": "object", "required": ["abca"], "properties": {"abca": {"type": "boolean"}}},
        {"type": "array", "items": {"$ref": "#"}}, {"const": "bcabca"}]}"##;
    let tags = StructuralTags {
        triggers: vec!["ab".into()],
        tags: vec![StructuralTag {
            begin: "abcc".into(),
            content: schema(r#"{"enum": [[1], {"bca": null}]}"#),
            end: "bca;".into(),
        }],
        at_most: Some(2),
        ..StructuralTags::default()
    };
    vec![
        (
            "regex",
            Constraint::regex("abca(b|cc)+bcabca[0-9]é", &limits).unwrap(),
        ),
        (
            "choices",
            Constraint::choices(&["abcabc", "abcab", "ccab", "bca"], &limits).unwrap(),
        ),
        (
            "lark",
            Constraint::lark(
                "start: \"abca\" item+ \"bcab\"\nitem: \"cc\" | \"(\" start \")\"\n",
                &limits,
            )
            .unwrap(),
        ),
        (
            "gbnf",
            Constraint::gbnf("root ::= \"bca\" (\"ab\" | \"ccab\")* \";\"", &limits).unwrap(),
        ),
        ("schema", schema(person)),
        ("union", schema(union)),
        ("tags", Constraint::structural_tags(&tags, &limits).unwrap()),
        (
            "healed",
            Constraint::regex("b+c?", &limits)
                .unwrap()
                .with_prefix(b"abca"),
        ),
    ]
}

fn generate(constraint: &Constraint, max_tokens: usize, temperature: f32, seed: u64) -> Generate {
    Generate {
        constraint: Some(constraint.clone()),
        max_tokens: Some(max_tokens),
        sampling: Sampling {
            temperature,
            seed,
            ..Sampling::default()
        },
        ..Generate::default()
    }
}

/// Greedy generation by the definition: at each step the most probable token that the constraint allows. None if that is
/// long.
fn reference(prompt: &[TokenId], constraint: &Constraint) -> Option<Vec<TokenId>> {
    let vocabulary = vocabulary();
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + 100 {
        matcher.mask(&mut mask).unwrap();
        let logits = logits_after(&tokens);
        let best = mask.iter().reduce(|best, token| {
            if logits[token as usize] > logits[best as usize] {
                token
            } else {
                best
            }
        });
        let best = best.unwrap();
        if best == END {
            return Some(tokens.split_off(prompt.len()));
        }
        matcher.accept(best).unwrap();
        tokens.push(best);
    }
    None
}

fn is_complete(constraint: &Constraint, tokens: &[TokenId], vocabulary: &Arc<Vocabulary>) -> bool {
    let mut matcher = Matcher::new(constraint.clone(), Arc::clone(vocabulary)).unwrap();
    tokens.iter().all(|&token| matcher.accept(token).is_ok()) && matcher.is_complete()
}

/// Each token's id, text and bits of its log-probability; the end's reason and text.
type Told = (Vec<(TokenId, String, u32)>, FinishReason, String);

/// What must not depend on forcing: everything but which tokens were forced.
fn told(bench: &Bench, id: RequestId) -> Told {
    let tokens = bench
        .events(id)
        .into_iter()
        .filter_map(|event| match event {
            Event::Token(token) => Some((token.id, token.text, token.logprob.to_bits())),
            _ => None,
        });
    let tokens = tokens.collect();
    let finished = bench.finished(id);
    (tokens, finished.reason, finished.text)
}

#[test]
fn greedy_outputs_are_those_of_the_definition() {
    let mut n_compared = 0;
    for (name, constraint) in constraints() {
        for seed in 0..6 {
            let tokens = prompt(seed, seed, 12);
            let Some(expected) = reference(&tokens, &constraint) else {
                continue;
            };
            n_compared += 1;
            for forcing in [true, false] {
                let mut bench = Bench::new(Setting {
                    forcing,
                    ..Setting::default()
                });
                // So far from the budget that it steers nothing.
                let id = bench.generate(&tokens, generate(&constraint, 380, 0.0, 0));
                bench.run();
                let finished = bench.finished(id);
                assert_eq!(finished.tokens, expected, "{name}, {seed}, {forcing}");
            }
        }
    }
    assert!(n_compared >= 24, "{n_compared}");
}

#[test]
fn forcing_changes_no_output() {
    let settings = [
        Setting::default(),
        Setting {
            prefix_cache: false,
            ..Setting::default()
        },
        Setting {
            page_size: 1,
            max_batch_tokens: 16,
            ..Setting::default()
        },
        Setting {
            page_size: 5,
            n_pages: 40,
            ..Setting::default()
        },
    ];
    let mut n_forced = 0;
    for setting in settings {
        let run = |forcing, without_logprobs| {
            let mut bench = Bench::new(Setting { forcing, ..setting });
            let mut ids = Vec::new();
            for (_, constraint) in constraints() {
                for seed in 0..3 {
                    let temperature = seed as f32 / 2.0;
                    let request = generate(&constraint, 60, temperature, seed);
                    let request = Generate {
                        without_logprobs,
                        ..request
                    };
                    ids.push(bench.generate(&prompt(seed / 2, seed, 23), request));
                }
            }
            bench.run();
            let told: Vec<_> = ids.iter().map(|&id| told(&bench, id)).collect();
            (told, bench.core.stats())
        };
        let (expected, plain) = run(false, false);
        let (given, forced) = run(true, false);
        assert_eq!(given, expected);
        assert_eq!(plain.n_forced_tokens, 0);
        assert!(forced.n_steps < plain.n_steps);
        n_forced += forced.n_forced_tokens;
        let texts = |told: &[Told]| {
            told.iter()
                .map(|(tokens, ..)| tokens.iter().map(|token| token.0).collect())
                .collect::<Vec<Vec<TokenId>>>()
        };
        for forcing in [false, true] {
            assert_eq!(texts(&run(forcing, true).0), texts(&expected), "few logits");
        }
    }
    assert!(n_forced > 500, "{n_forced}");
}

#[test]
fn every_kind_of_constraint_ends_within_its_budget() {
    let vocabulary = vocabulary();
    for (name, constraint) in constraints() {
        let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
        let least = matcher.min_tokens_to_accept();
        for max_tokens in least..least + 12 {
            for seed in 0..4 {
                let mut bench = Bench::new(Setting::default());
                let request = generate(&constraint, max_tokens, 1.0, seed);
                let id = bench.generate(&prompt(seed, seed, 12), request);
                bench.run();
                let finished = bench.finished(id);
                assert!(finished.tokens.len() <= max_tokens, "{name} {max_tokens}");
                assert!(
                    is_complete(&constraint, &finished.tokens, &vocabulary),
                    "{name} {max_tokens}: {}",
                    bench.text(id)
                );
            }
        }
        for max_tokens in 0..least {
            let mut bench = Bench::new(Setting::default());
            let request = generation(&[1, 2], generate(&constraint, max_tokens, 1.0, 0));
            let refused = bench.submit(request).unwrap_err();
            let expected = RequestError::BudgetTooSmall {
                given: least,
                limit: max_tokens,
            };
            assert_eq!(refused, expected, "{name}");
        }
    }
}

/// Pairs of which so many must differ; there are four.
fn different_pairs(n_items: usize) -> Constraint {
    schema(&format!(
        r#"{{"type": "array", "minItems": {n_items}, "maxItems": {n_items}, "uniqueItems": true, "items": {{
            "type": "object", "properties": {{"a": {{"type": "boolean"}}, "b": {{"type": "boolean"}}}},
            "required": ["a", "b"], "additionalProperties": false}}}}"#
    ))
}

#[test]
fn dead_ends_are_left_before_anybody_sees_them() {
    let (constraint, vocabulary) = (different_pairs(4), vocabulary());
    let mut outputs = [Vec::new(), Vec::new()];
    let mut n_rollbacks = 0;
    for forcing in [false, true] {
        for (seed, prefix_cache) in (0..16).flat_map(|seed| [(seed, true), (seed, false)]) {
            let mut bench = Bench::new(Setting {
                forcing,
                prefix_cache,
                page_size: 4,
                ..Setting::default()
            });
            let temperature = if seed % 2 == 0 { 0.0 } else { 1.0 };
            let id = bench.generate(
                &prompt(seed, seed, 12),
                generate(&constraint, 120, temperature, seed),
            );
            bench.run();
            let finished = bench.finished(id);
            assert!(
                is_complete(&constraint, &finished.tokens, &vocabulary),
                "{}",
                bench.text(id)
            );
            let seen: Vec<TokenId> = told(&bench, id).0.iter().map(|token| token.0).collect();
            assert_eq!(seen, finished.tokens, "what was told stands");
            n_rollbacks += bench.core.stats().n_rollbacks;
            if temperature == 0.0 {
                outputs[usize::from(forcing)].push(finished.tokens);
            }
        }
    }
    assert_eq!(outputs[0], outputs[1]);
    assert!(n_rollbacks > 0, "some lead nowhere");
}

#[test]
fn a_constraint_that_cannot_be_met_is_an_error() {
    let mut bench = Bench::new(Setting::default());
    let other = bench.generate(&prompt(2, 2, 12), at_most(20));
    let id = bench.generate(
        &prompt(1, 1, 12),
        generate(&different_pairs(5), 200, 1.0, 1),
    );
    bench.run();
    let Some(Event::Failed(RequestError::Invalid(message))) = bench.events(id).pop() else {
        panic!("{:?}", bench.events(id).pop())
    };
    assert!(message.contains("nothing may follow"), "{message}");
    bench.finished(other);
}

#[test]
fn few_logits_and_log_probabilities_exclude_each_other() {
    let mut bench = Bench::new(Setting::default());
    let generate = Generate {
        without_logprobs: true,
        n_top_logprobs: 1,
        ..at_most(1)
    };
    let refused = bench.submit(generation(&[1], generate)).unwrap_err();
    assert!(matches!(refused, RequestError::Invalid(_)), "{refused:?}");
}
