//! Tests of dry runs.

use lmrun_grammar::Limits;

use super::*;
use crate::constraint::{Cut, Reading, accepts};

fn shortest_of(pattern: &str) -> String {
    shortest(&Constraint::regex(pattern, &Limits::default()).unwrap()).unwrap()
}

#[test]
fn free_text_shows_its_name() {
    assert_eq!(
        placeholder(Some("reply"), &Shape::text()),
        Ok("‹reply›".into())
    );
    assert_eq!(placeholder(None, &Shape::text()), Ok("‹text›".into()));
}

#[test]
fn a_placeholder_is_a_shortest_text_of_its_type() {
    for (pattern, n_bytes) in [(r"[a-z]{3}\d+", 4), (r"(abc|d)!", 2), (r"x*", 0), (r"é", 2)] {
        let text = shortest_of(pattern);
        assert_eq!(text.len(), n_bytes, "{pattern}: {text}");
        let constraint = Constraint::regex(pattern, &Limits::default()).unwrap();
        assert_eq!(accepts(&constraint, &text), Ok(true), "{pattern}: {text}");
    }
}

#[test]
fn a_record_is_filled_in() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "age": { "type": "integer", "minimum": 18, "maximum": 99 }, "ok": { "type": "boolean" } },
        "required": ["age", "ok"],
        "additionalProperties": false
    });
    let constraint = Constraint::json_schema(&schema, &Limits::default()).unwrap();
    let shape = Shape {
        constraint: Some(constraint),
        reading: Reading::Json,
    };
    let value = shape.read(&placeholder(None, &shape).unwrap()).unwrap();
    assert!(
        (18..=99).contains(&value["age"].as_i64().unwrap()),
        "{value}"
    );
    assert!(value["ok"].is_boolean());
    assert_ne!(shape.reading, Reading::Text(Cut::Allowed));
}
