//! Verdicts of cases whose answers are known by hand, on a vocabulary of bytes and a few longer tokens.

use serde_json::json;

use super::*;
use crate::grammar_suite::Test;

fn vocabulary() -> Arc<Vocabulary> {
    let bytes = (0..=u8::MAX).map(|byte| Some([byte].into()));
    let longer = ["\": ", "\",", "true", "{\"", "12"].map(|token| Some(token.as_bytes().into()));
    let tokens: Vec<_> = bytes.chain(longer).chain([None]).collect();
    let end = tokens.len() as u32 - 1;
    Arc::new(Vocabulary::new(tokens, vec![end]))
}

fn verdict(source: Source, tests: &[(bool, Value)]) -> Verdict {
    let case = Case {
        name: "a case".into(),
        source,
        documents: Arc::default(),
        tests: tests
            .iter()
            .map(|(valid, data)| Test {
                valid: *valid,
                data: data.clone(),
            })
            .collect(),
    };
    Suite::new(vocabulary(), KeyOrder::Declared).take(&case)
}

fn regex(pattern: &str, tests: &[(bool, &str)]) -> Verdict {
    let tests: Vec<_> = tests
        .iter()
        .map(|&(valid, data)| (valid, json!(data)))
        .collect();
    verdict(Source::Regex(pattern.into()), &tests)
}

#[test]
fn valid_to_the_end_and_invalid_not() {
    let tests = [
        (true, "ab12"),
        (false, "ab"),
        (false, "ab123"),
        (false, "x"),
        (false, ""),
    ];
    assert_eq!(regex("ab12", &tests), Verdict::Passed);
}

fn over(said: &str) -> Verdict {
    Verdict::Over(said.into())
}

fn under(said: &str) -> Verdict {
    Verdict::Under(said.into())
}

#[test]
fn a_beginning_is_not_accepted() {
    assert_eq!(
        regex("ab+", &[(true, "a")]),
        over("instance 0, byte 1: its end")
    );
    assert_eq!(regex("ab+", &[(false, "a")]), Verdict::Passed);
}

#[test]
fn under_is_the_graver_fault() {
    let tests = [(true, "a"), (true, "c"), (true, "bc")];
    assert_eq!(regex("a|b", &tests), over("instance 1, byte 0: c"));
    let tests = [(false, "b"), (true, "c")];
    assert_eq!(regex("a|b", &tests), under("instance 0: b"));
    let tests = [(true, "c"), (false, "b")];
    assert_eq!(regex("a|b", &tests), under("instance 1: b"));
}

#[test]
fn a_fault_is_told_with_its_place() {
    // `12` is a token, so the place is where it begins.
    assert_eq!(
        regex("a1[34]", &[(true, "a12")]),
        over("instance 0, byte 1: 12")
    );
    let long = "é".repeat(50);
    let said = format!("instance 0, byte 2: {}..", "é".repeat(40));
    assert_eq!(regex("é", &[(true, &long)]), over(&said));
}

#[test]
fn what_is_not_compiled_is_refused() {
    assert!(matches!(
        regex("a(", &[(true, "a")]),
        Verdict::Refused(Refusal::Grammar(GrammarError::Regex { .. }))
    ));
    assert!(matches!(
        verdict(Source::Schema(json!({"type": "stsring"})), &[]),
        Verdict::Refused(Refusal::Grammar(GrammarError::Schema { .. }))
    ));
}

#[test]
fn an_empty_language_is_an_answer() {
    let nothing = || Source::Schema(json!({"$ref": "#"}));
    assert_eq!(verdict(nothing(), &[(false, json!(1))]), Verdict::Passed);
    assert!(matches!(
        verdict(nothing(), &[(true, json!(1))]),
        Verdict::Over(_)
    ));
}

#[test]
fn a_schema_sees_values() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": false,
    });
    let tests = [
        (false, json!({"a": true})),
        (false, json!({})),
        (false, json!([])),
    ];
    assert_eq!(
        verdict(Source::Schema(schema.clone()), &tests),
        Verdict::Passed
    );
    assert_eq!(
        verdict(Source::Schema(schema), &[(false, json!({"a": 12}))]),
        under("instance 0: {\"a\":12}")
    );
}

#[test]
fn a_value_is_spelled_compact_and_with_spaces() {
    let source = Source::Schema(json!(true));
    let data = json!({"b": [1, 2.0, {}], "a": [], "é\n": null});
    let expected = [
        "{\"b\":[1,2.0,{}],\"a\":[],\"é\\n\":null}",
        "{\"b\": [1, 2.0, {}], \"a\": [], \"é\\n\": null}",
    ];
    assert_eq!(spellings(&source, &data), expected);
    assert_eq!(spellings(&source, &json!("a, b: c")), ["\"a, b: c\""]);
    let regex = Source::Regex("a".into());
    assert_eq!(spellings(&regex, &json!("a\"")), ["a\""]);
}

#[test]
fn counts_add_up() {
    let mut suite = Suite::new(vocabulary(), KeyOrder::Declared);
    let lines = [
        json!({"name": "passed", "regex": "a", "tests": [{"valid": true, "data": "a"}]}),
        json!({"name": "over", "regex": "a", "tests": [{"valid": true, "data": "b"}]}),
        json!({"name": "under", "regex": "a", "tests": [{"valid": false, "data": "a"}]}),
        json!({"name": "refused", "regex": "(", "tests": []}),
        json!({"name": "refused, too", "regex": "b(", "tests": []}),
    ];
    for line in &lines {
        suite.take(&Case::parse(line.to_string().as_bytes()).expect("a case"));
    }
    let report = suite.report();
    assert!(!report.is_sound());
    let json = report.to_json();
    for (name, n) in [
        ("schemas", 5),
        ("passed", 1),
        ("over", 1),
        ("under", 1),
        ("refused", 2),
        ("errors", 0),
    ] {
        assert_eq!(json[name], json!(n), "{name}");
    }
    // The three that compiled saw a mask for each token, one in each instance.
    assert_eq!(json["mask_us"]["n"], json!(3));
    assert_eq!(json["compile_us"]["n"], json!(3));
    assert_eq!(json["first"]["over"], json!(["over"]));
    assert!(report.to_string().contains("over: instance 0, byte 0: b\n"));
    let reasons = json["by_reason"].as_object().expect("an object");
    let n_refused: u64 = reasons.values().filter_map(|r| r["n"].as_u64()).sum();
    assert_eq!(n_refused, 2);
}

#[test]
fn what_a_panic_says_is_kept() {
    let panic = catch_unwind(|| panic!("at {}", 3)).expect_err("it panics");
    assert_eq!(said(panic.as_ref()), "panic: at 3");
}
