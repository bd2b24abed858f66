//! Values are JSON; this is what the interpreter adds: their text, their size, and how they show in messages.

use lmrun_lang::ast::{Literal, Number};
use serde_json::Value;

/// Characters of a value shown in a message.
const BRIEF: usize = 60;

/// Bytes that an element of a list or a map counts for, besides its text.
const ELEMENT_BYTES: usize = 32;

/// The most values may nest; also what `serde_json` reads.
pub(crate) const MAX_NESTING: usize = 120;

/// What a value inserts into text: strings as they are, everything else as compact JSON.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value of a literal. A duration is its milliseconds.
pub(crate) fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Number(number) => number_value(*number),
        Literal::Duration(ms) => Value::from(*ms),
        Literal::String(text) => Value::String(text.clone()),
    }
}

/// A number of the source.
pub(crate) fn number_value(number: Number) -> Value {
    match number {
        Number::Int(n) => Value::from(n),
        Number::Float(x) => Value::from(x),
    }
}

/// Whether two values are equal: numbers by their value (`1 == 1.0`), maps whatever their order.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// The kind of a value, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(number) if number.is_f64() => "a float",
        Value::Number(_) => "an int",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A value cut short for a message.
pub(crate) fn brief(value: &Value) -> String {
    shorten(&value.to_string())
}

/// A text, quoted and cut short for a message.
pub(crate) fn brief_text(text: &str) -> String {
    shorten(&format!("{text:?}"))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// How much room a value takes, in bytes, and how deep it nests.
pub(crate) fn measure(value: &Value) -> (usize, usize) {
    match value {
        Value::String(text) => (ELEMENT_BYTES + text.len(), 0),
        Value::Array(items) => items
            .iter()
            .fold((ELEMENT_BYTES, 1), |(bytes, depth), item| {
                let (item_bytes, item_depth) = measure(item);
                (bytes + item_bytes, depth.max(item_depth + 1))
            }),
        Value::Object(map) => map
            .iter()
            .fold((ELEMENT_BYTES, 1), |(bytes, depth), (key, item)| {
                let (item_bytes, item_depth) = measure(item);
                (
                    bytes + ELEMENT_BYTES + key.len() + item_bytes,
                    depth.max(item_depth + 1),
                )
            }),
        _ => (ELEMENT_BYTES, 0),
    }
}
