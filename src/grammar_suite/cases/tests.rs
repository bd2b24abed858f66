//! Lines of a suite.

use serde_json::json;

use super::*;

fn parse(line: &Value) -> Result<Case, String> {
    Case::parse(line.to_string().as_bytes())
}

#[test]
fn a_line_holds_one_constraint() {
    let tests = json!([{"valid": true, "data": null}]);
    let case = parse(&json!({"name": "a", "schema": false, "tests": tests})).expect("a case");
    assert_eq!(case.source, Source::Schema(json!(false)));
    assert_eq!(case.tests[0].data, Value::Null);
    for wrong in [
        json!({"name": "a", "tests": []}),
        json!({"name": "a", "schema": {}, "regex": "a", "tests": []}),
        json!({"name": "a", "schema": {}}),
        json!({"name": "a", "schema": {}, "tests": [{"valid": true}]}),
        json!({"name": "a", "schema": {}, "tests": [{"data": 1}]}),
        json!({"name": "a", "regex": "a", "tests": [{"valid": true, "data": 1}]}),
        json!({"schema": {}, "tests": []}),
        json!([]),
    ] {
        assert!(parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn documents_come_with_the_line() {
    let line = json!({"name": "a", "schema": true, "documents": {"http://x/y": {}}, "tests": []});
    let case = parse(&line).expect("a case");
    assert_eq!(case.documents["http://x/y"], json!({}));
}
