//! The matcher's own promises: end tokens, rollback, forced bytes, prefixes, steering.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{END, Random, accepts, brute_force_mask, byte_token, random_output, vocabulary};
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, TokenId, TokenMask, Vocabulary};
use proptest::prelude::*;
use serde_json::json;

fn regex(pattern: &str) -> Constraint {
    Constraint::regex(pattern, &Limits::default()).unwrap()
}

fn matcher(constraint: Constraint, vocabulary: &Arc<Vocabulary>) -> Matcher {
    Matcher::new(constraint, Arc::clone(vocabulary)).unwrap()
}

fn feed(matcher: &mut Matcher, text: &str) {
    for &byte in text.as_bytes() {
        matcher.accept(byte_token(byte)).unwrap();
    }
}

#[test]
fn the_end_is_legal_exactly_when_complete() {
    let vocabulary = vocabulary();
    let mut matcher = matcher(regex("ab?"), &vocabulary);
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    matcher.mask(&mut mask).unwrap();
    assert!(!mask.is_allowed(END) && !matcher.is_complete());
    let refused = GrammarError::IllegalToken {
        token: END,
        n_accepted: 0,
    };
    assert_eq!(matcher.accept(END), Err(refused));
    feed(&mut matcher, "a");
    matcher.mask(&mut mask).unwrap();
    assert!(mask.is_allowed(END) && matcher.is_complete() && !matcher.is_finished());
    feed(&mut matcher, "b");
    matcher.mask(&mut mask).unwrap();
    assert_eq!(mask.single(), Some(END));
    assert!(matcher.is_finished());
    matcher.accept(END).unwrap();
}

#[test]
fn special_tokens_are_never_legal() {
    let vocabulary = vocabulary();
    let mut matcher = matcher(Constraint::text(), &vocabulary);
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    matcher.mask(&mut mask).unwrap();
    assert!(!mask.is_allowed(1) && matcher.accept(1).is_err());
    assert!(matcher.accept(1_000_000).is_err());
    assert_eq!(mask, brute_force_mask(&matcher, &vocabulary));
}

#[test]
fn a_refused_token_changes_nothing() {
    let vocabulary = vocabulary();
    let mut matcher = matcher(regex("[ab]+c"), &vocabulary);
    feed(&mut matcher, "ab");
    let before = brute_force_mask(&matcher, &vocabulary);
    let refused = GrammarError::IllegalToken {
        token: byte_token(b'x'),
        n_accepted: 2,
    };
    assert_eq!(matcher.accept(byte_token(b'x')), Err(refused));
    assert_eq!(brute_force_mask(&matcher, &vocabulary), before);
}

#[test]
fn a_mask_of_another_size_is_refused() {
    let vocabulary = vocabulary();
    let mut matcher = matcher(regex("a"), &vocabulary);
    let expected = vocabulary.n_tokens();
    assert_eq!(
        matcher.mask(&mut TokenMask::new(3)),
        Err(GrammarError::MaskSize { given: 3, expected })
    );
}

#[test]
fn choices_are_whole_and_exact() {
    let vocabulary = vocabulary();
    let options = ["yes", "yes please", "no", "é"];
    let constraint = Constraint::choices(&options, &Limits::default()).unwrap();
    for option in options {
        assert!(accepts(&constraint, &vocabulary, option.as_bytes()));
    }
    for other in ["", "y", "yes ", "yes pleasee", "n", "yesno"] {
        assert!(!accepts(&constraint, &vocabulary, other.as_bytes()));
    }
    let mut matcher = matcher(constraint, &vocabulary);
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    matcher.mask(&mut mask).unwrap();
    assert_eq!(mask, brute_force_mask(&matcher, &vocabulary));
    assert!(Constraint::choices::<&str>(&[], &Limits::default()).is_err());
}

#[test]
fn a_prefix_comes_first() {
    let vocabulary = vocabulary();
    let constraint = regex("//[a-z]+").with_prefix(b":").with_prefix(b"http");
    assert!(accepts(&constraint, &vocabulary, b"http://abc"));
    assert!(!accepts(&constraint, &vocabulary, b"//abc"));
    assert!(!accepts(&constraint, &vocabulary, b"http:"));
    let mut matcher = matcher(constraint, &vocabulary);
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    matcher.mask(&mut mask).unwrap();
    assert_eq!(mask, brute_force_mask(&matcher, &vocabulary));
    assert_eq!(matcher.forced_bytes(), b"http://");
    // `http`, `://`, and a letter.
    assert_eq!(matcher.min_tokens_to_accept(), 3);
    let text = Constraint::text().with_prefix(b"a");
    assert!(accepts(&text, &vocabulary, b"a"));
    assert!(accepts(&text, &vocabulary, "aé\n".as_bytes()));
    assert!(!accepts(&text, &vocabulary, b"ba"));
    assert!(!accepts(&text, &vocabulary, b"a\xFF"));
}

#[test]
fn forced_bytes_stop_at_the_first_choice() {
    let vocabulary = vocabulary();
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}, "ok": {"type": "boolean"}},
        "required": ["name", "ok"], "additionalProperties": false});
    let constraint = Constraint::json_schema(&schema, &Limits::default()).unwrap();
    let mut matcher = matcher(constraint, &vocabulary);
    assert_eq!(matcher.forced_bytes(), br#"{"name":""#);
    feed(&mut matcher, r#"{"name":"x""#);
    assert_eq!(matcher.forced_bytes(), br#","ok":"#);
    feed(&mut matcher, r#","ok":t"#);
    assert_eq!(matcher.forced_bytes(), b"rue}");
    feed(&mut matcher, "rue}");
    assert_eq!(matcher.forced_bytes(), b"");
    assert!(matcher.is_finished());
}

#[test]
fn steering_needs_its_budget() {
    let vocabulary = vocabulary();
    let mut matcher = matcher(regex("a{10}"), &vocabulary);
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    assert!(matcher.min_tokens_to_accept() <= 10);
    assert!(matches!(
        matcher.mask_toward_end(&mut mask, 1),
        Err(GrammarError::Budget { budget: 1, .. })
    ));
}

#[test]
fn a_vocabulary_without_the_bytes_is_refused() {
    let tokens = vec![Some(b"a".to_vec().into_boxed_slice())];
    let vocabulary = Arc::new(Vocabulary::new(tokens, Vec::new()));
    let error = Matcher::new(regex("b"), Arc::clone(&vocabulary)).unwrap_err();
    assert_eq!(error, GrammarError::NoToken);
    assert!(Matcher::new(regex("a"), vocabulary).is_ok());
}

#[test]
fn one_constraint_serves_two_vocabularies() {
    let constraint = regex("a+");
    let small = Arc::new(Vocabulary::new(
        vec![Some(Box::from(&b"a"[..])), None],
        vec![1],
    ));
    for vocabulary in [vocabulary(), small] {
        let mut matcher = matcher(constraint.clone(), &vocabulary);
        let mut mask = TokenMask::new(vocabulary.n_tokens());
        for _ in 0..2 {
            matcher.mask(&mut mask).unwrap();
            assert!(
                mask.iter()
                    .all(|token| vocabulary.bytes(token).unwrap()[0] == b'a')
            );
            assert!(!mask.is_empty());
        }
    }
}

/// A generator of small schemas, nested and combined.
fn any_schema() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"enum": ["a", "ab", 1, [true], {"x": "\""}]})),
        (-50i32..50, 0i32..60)
            .prop_map(|(min, n)| json!({"type": "integer", "minimum": min, "maximum": min + n})),
        (-50i32..50, 0i32..60).prop_map(|(min, n)| {
            let (low, high) = (f64::from(min) / 8.0, f64::from(min + n) / 8.0);
            json!({"type": "number", "minimum": low, "maximum": high})
        }),
        (1u32..40).prop_map(|multiple| json!({"type": "integer", "multipleOf": multiple})),
        (0u32..3, 0u32..4).prop_map(|(min, n)| {
            json!({"type": "string", "minLength": min, "maxLength": min + n})
        }),
        (0u32..3, 0u32..4).prop_map(|(min, n)| {
            json!({"type": "string", "pattern": "^[a-cé]*x?$", "minLength": min, "maxLength": min + n})
        }),
        Just(json!({"type": "string", "pattern": "a.b"})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            (inner.clone(), 0u32..3).prop_map(
                |(items, min)| json!({"type": "array", "items": items, "minItems": min, "maxItems": 3})
            ),
            (list.clone(), any::<bool>()).prop_map(
                |(prefix, rest)| json!({"type": "array", "prefixItems": prefix, "items": rest})
            ),
            list.clone().prop_map(|branches| json!({ "anyOf": branches })),
            (inner.clone(), inner.clone(), any::<[bool; 3]>()).prop_map(|(a, b, flags)| {
                let required: Vec<&str> =
                    ["a", "ab"].into_iter().zip(flags).filter(|(_, on)| *on).map(|(n, _)| n).collect();
                json!({"type": "object", "properties": {"a": a, "ab": b}, "required": required,
                    "additionalProperties": flags[2]})
            }),
            (inner.clone(), inner).prop_map(|(a, b)| json!({ "allOf": [a, b] })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Liveness and soundness at once: `random_output` panics on an empty mask or a broken promise
    /// of steering.
    #[test]
    fn any_schema_gives_valid_outputs(schema in any_schema(), seed in 1u64.., n_free in 0usize..25) {
        let vocabulary = vocabulary();
        let constraint = match Constraint::json_schema(&schema, &Limits::default()) {
            Ok(constraint) => constraint,
            Err(GrammarError::Empty { .. }) => return Ok(()),
            Err(GrammarError::Schema { message, .. }) => {
                prop_assert!(message.contains("that hold together"), "{message}");
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let mut random = Random(seed);
        let mut run = matcher(constraint.clone(), &vocabulary);
        let output = random_output(&mut run, &vocabulary, &mut random, n_free);
        let text = String::from_utf8(output).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(jsonschema::is_valid(&schema, &value), "{schema} made {text}");
        // The mask at a random place on the way is what trying each token gives.
        let mut replay = matcher(constraint, &vocabulary);
        let cut = random.below(text.len() + 1);
        for &byte in &text.as_bytes()[..cut] {
            replay.accept(byte_token(byte)).unwrap();
        }
        let mut mask = TokenMask::new(vocabulary.n_tokens());
        replay.mask(&mut mask).unwrap();
        prop_assert_eq!(&mask, &brute_force_mask(&replay, &vocabulary));
        // The steered mask is a part of it that keeps the promise, and is all of it far from the
        // end.
        let budget = replay.min_tokens_to_accept() + random.below(3);
        let mut near = TokenMask::new(vocabulary.n_tokens());
        if budget > 0 {
            replay.mask_toward_end(&mut near, budget).unwrap();
            prop_assert!(!near.is_empty());
            for token in near.iter().filter(|&token| token != END) {
                prop_assert!(mask.is_allowed(token));
                replay.accept(token).unwrap();
                prop_assert!(replay.min_tokens_to_accept() < budget);
                replay.rollback(1);
            }
        }
        replay.mask_toward_end(&mut near, 1_000_000).unwrap();
        prop_assert_eq!(mask, near);
    }

    /// Going back and on again is as never having gone.
    #[test]
    fn rollback_forgets(seed in 1u64.., n_tokens in 1usize..12, n_back in 0usize..12) {
        let vocabulary = vocabulary();
        let schema = json!({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}});
        let constraint = Constraint::json_schema(&schema, &Limits::default()).unwrap();
        let mut random = Random(seed);
        let mut run = matcher(constraint.clone(), &vocabulary);
        let mut taken: Vec<TokenId> = Vec::new();
        let mut mask = TokenMask::new(vocabulary.n_tokens());
        for _ in 0..n_tokens {
            run.mask(&mut mask).unwrap();
            let allowed: Vec<TokenId> = mask.iter().collect();
            taken.push(allowed[random.below(allowed.len())]);
            run.accept(taken[taken.len() - 1]).unwrap();
        }
        run.rollback(n_back);
        let mut fresh = matcher(constraint, &vocabulary);
        for &token in &taken[..n_tokens.saturating_sub(n_back)] {
            fresh.accept(token).unwrap();
        }
        let mut expected = TokenMask::new(vocabulary.n_tokens());
        run.mask(&mut mask).unwrap();
        fresh.mask(&mut expected).unwrap();
        prop_assert_eq!(mask, expected);
    }
}

#[test]
fn text_is_cut_into_the_longest_tokens() {
    let tokens = ["a", "ab", "abc", "c", "d", "é"].map(|token| Some(token.as_bytes().into()));
    let vocabulary = Vocabulary::new(tokens.to_vec(), vec![]);
    assert_eq!(vocabulary.cut(b""), Some(vec![]));
    assert_eq!(vocabulary.cut(b"aababcabd"), Some(vec![0, 1, 2, 1, 4]));
    assert_eq!(vocabulary.cut("é".as_bytes()), Some(vec![5]));
    // The greedy way leads nowhere here, and another is not looked for.
    assert_eq!(vocabulary.cut(b"ab\xc3"), None);
    assert_eq!(vocabulary.cut(b"b"), None);
}

#[test]
fn the_fewest_bytes_shrink_to_none() {
    let constraint = Constraint::regex("abc(de)*", &Limits::default()).unwrap();
    let mut matcher = Matcher::new(constraint.with_prefix(b"x"), vocabulary()).unwrap();
    for (byte, n_left) in b"xabcde".iter().zip([4, 3, 2, 1, 0, 1]) {
        assert_eq!(matcher.min_bytes_to_accept(), n_left);
        matcher.accept(byte_token(*byte)).unwrap();
    }
    assert_eq!(matcher.min_bytes_to_accept(), 0);
}

#[test]
fn the_shortest_string_of_patterns_within_a_length_is_known() {
    let vocabulary = vocabulary();
    let all = |patterns: &[&str], min: u32, max: u32| {
        let patterns: Vec<_> = patterns.iter().map(|p| json!({"pattern": p})).collect();
        json!({"type": "string", "allOf": patterns, "minLength": min, "maxLength": max})
    };
    let quoted = "\"";
    // Counted by hand, quotes included.
    for (schema, shortest) in [
        (all(&["a1", "b2"], 0, 4), 6),
        (all(&["a1", "b2"], 6, 9), 8),
        (all(&["a1b", "1b2"], 0, 4), 6),
        // A quote within a string is one character and two bytes.
        (all(&[quoted, "^.?a"], 0, 2), 5),
        // Four bytes are fewer than six, but as many characters too many.
        (all(&["^(?:xyzw|\"\"\")", "^[^q]*$"], 0, 3), 8),
    ] {
        let constraint = Constraint::json_schema(&schema, &Limits::default()).unwrap();
        let matcher = matcher(constraint, &vocabulary);
        assert_eq!(matcher.min_bytes_to_accept(), shortest, "{schema}");
    }
    let none = all(&["a1", "b2"], 0, 3);
    let none = Constraint::json_schema(&none, &Limits::default()).unwrap_err();
    assert!(matches!(none, GrammarError::Empty { .. }), "{none}");
}
