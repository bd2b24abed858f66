//! Structural tags: masks against brute force, steering, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Random, accepts, assert_masks_equal_brute_force, random_output, vocabulary};
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, StructuralTag, StructuralTags};
use serde_json::{Value, json};

fn schema(schema: &Value) -> Constraint {
    Constraint::json_schema(schema, &Limits::default()).unwrap()
}

fn weather() -> StructuralTag {
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}},
        "required": ["city"], "additionalProperties": false});
    StructuralTag {
        begin: "<function=weather>".into(),
        content: schema(&city),
        end: "</function>".into(),
    }
}

fn time() -> StructuralTag {
    StructuralTag {
        begin: "<function=time>".into(),
        content: Constraint::regex("[0-9]{2}:[0-9]{2}", &Limits::default()).unwrap(),
        end: "</function>".into(),
    }
}

fn tags() -> StructuralTags {
    StructuralTags {
        triggers: vec!["<function=".into()],
        tags: vec![weather(), time()],
        ..StructuralTags::default()
    }
}

fn constraint(tags: &StructuralTags) -> Constraint {
    Constraint::structural_tags(tags, &Limits::default()).unwrap()
}

/// The kinds of tags that the tests below walk through.
fn kinds() -> Vec<StructuralTags> {
    let short = StructuralTag {
        begin: "{".into(),
        content: schema(&json!({"type": "integer"})),
        end: "}".into(),
    };
    let prefixed = StructuralTag {
        begin: " the".into(),
        content: Constraint::regex("[a-z]+", &Limits::default())
            .unwrap()
            .with_prefix(b"://"),
        end: ".".into(),
    };
    vec![
        tags(),
        StructuralTags {
            at_least: 1,
            at_most: Some(2),
            ..tags()
        },
        StructuralTags {
            stop_after_first: true,
            or_else: Some(schema(
                &json!({"type": "array", "items": {"type": "boolean"}}),
            )),
            at_least: 1,
            ..tags()
        },
        StructuralTags {
            triggers: vec!["{".into(), " the".into()],
            tags: vec![short, prefixed],
            ..StructuralTags::default()
        },
        StructuralTags::default(),
    ]
}

#[test]
fn spans_follow_their_trigger() {
    let vocabulary = vocabulary();
    let holds = |tags: &StructuralTags, text: &str| {
        accepts(&constraint(tags), &vocabulary, text.as_bytes())
    };
    let tags = tags();
    assert!(holds(&tags, ""));
    assert!(holds(&tags, "naïve <func text"));
    assert!(holds(
        &tags,
        "a<function=time>12:30</function>b<function=time>00:00</function>"
    ));
    assert!(holds(
        &tags,
        "<function=weather>{\"city\":\"<function=\"}</function><functio"
    ));
    assert!(!holds(&tags, "<function="));
    assert!(!holds(&tags, "<function=time>12:30"));
    assert!(!holds(&tags, "<function=time>noon</function>"));
    assert!(!holds(&tags, "<function=other>"));
    assert!(!holds(&tags, "<<function=weather>{}</function>"));
    let either = &kinds()[2];
    assert!(holds(either, "[true,false]"));
    assert!(holds(either, "[true, <function=time>12:30</function>"));
    assert!(!holds(either, "[true"));
}

#[test]
fn masks_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random(9);
    for tags in kinds() {
        for start in [
            "",
            "x<function=",
            "<function=weather>{\"city\":\"a",
            " t",
            "{1",
        ] {
            let mut matcher = Matcher::new(constraint(&tags), Arc::clone(&vocabulary)).unwrap();
            for &byte in start.as_bytes() {
                if matcher.accept(common::byte_token(byte)).is_err() {
                    break;
                }
            }
            assert_masks_equal_brute_force(
                &mut matcher,
                &vocabulary,
                &mut random,
                8,
                &format!("{tags:?}"),
            );
        }
    }
}

#[test]
fn steered_outputs_are_whole() {
    let vocabulary = vocabulary();
    let mut random = Random(2);
    for tags in kinds() {
        for n_free in 0..15 {
            let mut matcher = Matcher::new(constraint(&tags), Arc::clone(&vocabulary)).unwrap();
            random_output(&mut matcher, &vocabulary, &mut random, n_free);
            assert!(matcher.is_complete(), "{tags:?}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |tags: StructuralTags| {
        let error = Constraint::structural_tags(&tags, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, GrammarError::Tags { .. }),
            "{tags:?}: {error}"
        );
    };
    let triggers = |triggers: &[&str]| StructuralTags {
        triggers: triggers.iter().map(ToString::to_string).collect(),
        ..tags()
    };
    refused(triggers(&[]));
    refused(triggers(&["<function=", ""]));
    refused(triggers(&["<function=", "<tool"]));
    refused(triggers(&["<function=", "<func"]));
    refused(triggers(&["<function=", "<function="]));
    refused(triggers(&["<function=time"]));
    refused(StructuralTags {
        at_least: 2,
        at_most: Some(1),
        ..tags()
    });
    refused(StructuralTags {
        at_least: 2,
        stop_after_first: true,
        ..tags()
    });
    let long = "x".repeat(2 << 20);
    let too_long = StructuralTags {
        triggers: vec![long.clone()],
        tags: vec![StructuralTag {
            begin: long,
            ..time()
        }],
        ..StructuralTags::default()
    };
    let error = Constraint::structural_tags(&too_long, &Limits::default()).unwrap_err();
    assert!(is_limit(&error, "source_bytes"));
    let many: Vec<String> = (0..200)
        .map(|n| format!("<function=number {n:06}"))
        .collect();
    let too_many = StructuralTags {
        tags: many
            .iter()
            .map(|begin| StructuralTag {
                begin: begin.clone(),
                ..time()
            })
            .collect(),
        triggers: many,
        ..StructuralTags::default()
    };
    let error = Constraint::structural_tags(&too_many, &Limits::default()).unwrap_err();
    assert!(is_limit(&error, "table_states"));
}

fn is_limit(error: &GrammarError, expected: &str) -> bool {
    matches!(error, GrammarError::Limit { limit, .. } if *limit == expected)
}
