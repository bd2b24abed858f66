//! Keywords and what only looks like them.

use serde_json::json;

use super::*;

#[test]
fn names_and_values_are_no_keywords() {
    let schema = json!({
        "properties": {"not": {"type": "string"}, "b": {"items": [{"type": "null"}, true]}},
        "enum": [{"pattern": 1}],
        "anyOf": [{"const": {"oneOf": 1}}, false],
    });
    let expected = [
        ("anyOf", 1),
        ("const", 1),
        ("enum", 1),
        ("items", 1),
        ("properties", 1),
        ("type", 2),
    ];
    assert_eq!(keywords(&schema), BTreeMap::from(expected));
}

#[test]
fn a_boolean_schema_has_none() {
    assert!(keywords(&json!(true)).is_empty());
}
