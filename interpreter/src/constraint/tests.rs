//! Tests of constraints.

use std::sync::Arc;

use lmrun_lang::ast::{ExprKind, StmtKind};
use serde_json::json;

use super::*;

/// The shape of a type as a `gen` has it.
fn shape(ty: &str) -> Shape {
    let source = format!(
        "type Mood = \"calm\" | \"angry\"\ntype Pair {{ a: int b?: Mood }}\n\
         model \"m\" with (template=\"none\")\n\"x\"\ngen(x: {ty})"
    );
    let checked = crate::check("test.lmp", &source);
    let program = Arc::new(
        checked
            .program
            .unwrap_or_else(|| panic!("{:?}", checked.diagnostics)),
    );
    let Some(StmtKind::Expr(expr)) = program.ast.body.stmts.last().map(|stmt| &stmt.kind) else {
        panic!("the last statement is the generation")
    };
    let ExprKind::Gen(generation) = &expr.kind else {
        panic!("the last statement is the generation")
    };
    Shape::of(&program, generation.ty.as_ref().unwrap()).unwrap()
}

fn takes(shape: &Shape, text: &str) -> bool {
    accepts(shape.constraint.as_ref().unwrap(), text).unwrap()
}

#[test]
fn types_at_the_top_read_as_their_users_would_write_them() {
    for (ty, text, value) in [
        ("int(0..150)", "36", json!(36)),
        ("float", "-1.5", json!(-1.5)),
        ("bool", "true", json!(true)),
        ("/[a-z]+\\d/", "ab1", json!("ab1")),
        ("string(1..4)", "a\"\nb", json!("a\"\nb")),
        ("\"yes\"", "yes", json!("yes")),
        ("Mood", "angry", json!("angry")),
        ("Mood | 3 | null", "null", json!(null)),
        ("Mood[]", r#"["calm"]"#, json!(["calm"])),
        (
            "Pair",
            r#"{"a":1,"b":"calm"}"#,
            json!({ "a": 1, "b": "calm" }),
        ),
        ("string(1..4)?", r#""abc""#, json!("abc")),
        ("int | string(1..4)", r#""abc""#, json!("abc")),
    ] {
        let shape = shape(ty);
        assert!(takes(&shape, text), "{ty}: {text}");
        assert_eq!(shape.read(text), Ok(value), "{ty}");
    }
}

#[test]
fn what_is_not_of_the_type_is_not_taken() {
    for (ty, text) in [
        ("int(0..150)", "151"),
        ("string(1..4)", ""),
        ("string(1..4)", "abcde"),
        ("Mood", "\"calm\""),
        ("Mood", "cal"),
        ("Pair", r#"{"b":"calm","a":1}"#),
        ("Pair", r#"{"a":1,"b":"glad"}"#),
    ] {
        assert!(!takes(&shape(ty), text), "{ty}: {text}");
    }
}

#[test]
fn literals_that_look_the_same_are_told_apart_as_json() {
    let shape = shape("\"1\" | 1");
    assert_eq!(shape.reading, Reading::Json);
    assert_eq!(shape.read("\"1\""), Ok(json!("1")));
    assert_eq!(shape.read("1"), Ok(json!(1)));
}

#[test]
fn free_strings_need_no_constraint() {
    let shape = shape("string");
    assert!(shape.constraint.is_none());
    assert_eq!(shape.reading, Reading::Text(Cut::Allowed));
    assert!(takes(&self::shape("string(2..)"), "ab\ncd"));
    assert!(!takes(&self::shape("string(2..)"), "a"));
}
