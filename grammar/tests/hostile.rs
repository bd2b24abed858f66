//! Inputs made to hurt: each gets an answer or a clear error in a quarter of a second, and no stack
//! overflows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/inputs.rs"]
mod inputs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::vocabulary;
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, TokenMask};
use serde_json::{Value, json};

/// Ten times what an idle machine needs at most: only what hangs is to fail here.
const PATIENCE: Duration = Duration::from_secs(3);

/// Compiles, makes a few masks, and says whether that went well; a failure of either must be an
/// error, in time.
fn try_out(
    what: &str,
    compile: impl FnOnce() -> Result<Constraint, GrammarError>,
) -> Option<GrammarError> {
    let vocabulary = vocabulary();
    let start = Instant::now();
    let outcome = compile().and_then(|constraint| {
        let mut matcher = Matcher::new(constraint, Arc::clone(&vocabulary))?;
        let mut mask = TokenMask::new(vocabulary.n_tokens());
        for _ in 0..20 {
            matcher.mask(&mut mask)?;
            let token = mask.iter().last().unwrap();
            matcher.accept(token)?;
        }
        Ok(())
    });
    assert!(start.elapsed() < PATIENCE, "{what}: {:?}", start.elapsed());
    outcome.err()
}

fn regex(pattern: &str) -> Option<GrammarError> {
    let what: String = pattern.chars().take(40).collect();
    try_out(&what, || Constraint::regex(pattern, &Limits::default()))
}

fn schema(schema: &Value) -> Option<GrammarError> {
    let what: String = schema.to_string().chars().take(60).collect();
    try_out(&what, || {
        Constraint::json_schema(schema, &Limits::default())
    })
}

fn is_limit(error: Option<&GrammarError>, expected: &str) -> bool {
    matches!(error, Some(GrammarError::Limit { limit, .. }) if *limit == expected)
}

#[test]
fn each_known_input_gets_its_answer() {
    for input in inputs::inputs() {
        let error = try_out(input.name, || input.source.compile());
        let given = inputs::answer(&error.clone().map_or(Ok(()), Err));
        assert_eq!(given, Some(input.answer), "{}: {error:?}", input.name);
    }
}

#[test]
fn nested_parentheses() {
    for n in [30_000, 60_000] {
        assert!(regex(&("(".repeat(n) + &")".repeat(n))).is_some());
        assert!(regex(&"(".repeat(n)).is_some());
        assert!(regex(&"(?:a|".repeat(n)).is_some());
        assert!(regex(&"[".repeat(n)).is_some());
    }
}

#[test]
fn nested_repetitions() {
    assert_eq!(regex("(((a{10}){10}){10}){10}"), None);
    assert!(is_limit(
        regex("((((((a{10}){10}){10}){10}){10}){10}){10}").as_ref(),
        "nfa_bytes"
    ));
    assert!(is_limit(
        regex("((a{1000}){1000}){1000}").as_ref(),
        "nfa_bytes"
    ));
    regex("(((((a*)*)*)*)*)*");
    regex("(a{0,1000}){0,1000}");
    regex("(?:){1000000000}");
    regex(&"a?".repeat(5_000));
}

#[test]
fn exploding_automata() {
    regex("(a|b)*a(a|b){30}");
    regex("(.*a){20}");
    regex(".*[ab].{200}");
    regex(&format!(
        "({})*",
        (0..2_000)
            .map(|n| format!("w{n}x"))
            .collect::<Vec<_>>()
            .join("|")
    ));
    regex(r"(\p{L}+\p{N}*){1,20}");
}

#[test]
fn exploding_lookarounds() {
    regex("(?=.*a.{14})(?=.*b.{14})(?!.*c.{14}).*");
    regex("(?!(a|b)*a(a|b){20}$)[ab]*");
    regex("((?!a.{12}b).|(?!c.{12}d).)*");
    regex("((?!(a|b)*a(a|b){20}$)[ab])*x");
    regex(r"(\b\w+\b\W*){1,200}");
    regex(&"(?:(?=a)a|b)?".repeat(40));
    regex(&"(?!".repeat(60_000));
    regex(&format!("{}x{}", "(?!".repeat(100), ")".repeat(100)));
    regex(&format!(
        "^{}[a-z]*$",
        (0..200).map(|n| format!("(?!w{n}$)")).collect::<String>()
    ));
    regex(&format!("((?!{}).)*", "a".repeat(5_000)));
}

#[test]
fn nothing_to_repeat() {
    for pattern in ["*", "+a", "a|*", "(*a)", "?"] {
        assert!(
            matches!(regex(pattern), Some(GrammarError::Regex { .. })),
            "{pattern}"
        );
    }
}

#[test]
fn doubling_references() {
    let mut definitions = serde_json::Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"anyOf": [next, next]}));
        let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
        definitions.insert(format!("a{n}"), json!({"allOf": [next, next]}));
    }
    definitions.insert("d60".into(), json!({"type": "null"}));
    definitions.insert("a60".into(), json!({"type": "null"}));
    for root in ["d0", "a0"] {
        let root = json!({"$ref": format!("#/$defs/{root}"), "$defs": definitions});
        assert_eq!(schema(&root), None);
    }
}

#[test]
fn a_product_of_alternatives() {
    let wide: Vec<Value> = (0..20).map(|n| json!({ "minimum": n })).collect();
    let all: Vec<Value> = (0..20).map(|_| json!({ "anyOf": wide })).collect();
    assert_eq!(schema(&json!({ "allOf": all })), None);
    let all: Vec<Value> = (0..20)
        .map(|at| {
            let wide = (0..20).map(|n| json!({ "required": [format!("{at}-{n}")] }));
            json!({ "anyOf": wide.collect::<Vec<_>>() })
        })
        .collect();
    schema(&json!({ "allOf": all, "type": "object" }));
}

#[test]
fn many_parses_side_by_side() {
    let open = |n: usize| json!({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": n});
    let branches: Vec<Value> = (0..12).map(open).chain([json!({"type": "null"})]).collect();
    schema(&json!({ "anyOf": branches }));
}

#[test]
fn long_strings() {
    assert_eq!(
        schema(&json!({"type": "string", "maxLength": 100_000})),
        None
    );
    schema(&json!({"type": "string", "maxLength": 100_000, "pattern": "^[a-z]+$"}));
    assert_eq!(
        schema(&json!({"type": "string", "maxLength": 4_000_000_000u64, "pattern": "^[a-z]+$"})),
        None
    );
    schema(&json!({"type": "string", "minLength": 4_000_000_000u64, "pattern": "^[a-z]+$"}));
    schema(&json!({"type": "string", "pattern": "^.{0,5000}$"}));
    schema(&json!({"type": "array", "minItems": 4_000_000_000u64}));
}

#[test]
fn large_documents() {
    let properties: serde_json::Map<String, Value> = (0..5_000)
        .map(|n| (format!("property_{n}"), json!({"type": "integer"})))
        .collect();
    schema(&json!({"type": "object", "properties": properties}));
    let too_many: Vec<Value> = (0..60_000).map(Value::from).collect();
    assert!(is_limit(
        schema(&json!({ "enum": too_many })).as_ref(),
        "schema_nodes"
    ));
    let too_long = "a".repeat(2 << 20);
    assert!(is_limit(
        schema(&json!({ "const": too_long })).as_ref(),
        "source_bytes"
    ));
    assert!(is_limit(regex(&too_long).as_ref(), "source_bytes"));
}
