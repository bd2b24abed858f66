//! Keywords by themselves: which there are, and what their values must look like.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::GrammarError;
use crate::json::decimal::OnGrid;
use crate::json::document::child;
use crate::json::form::{Bounds, types};
use crate::json::schema::refuse;

/// Keywords that say nothing of a value by themselves.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$vocabulary",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];

/// Keywords that do.
const ASSERTIONS: &[&str] = &[
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "type",
    "enum",
    "const",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "required",
    "uniqueItems",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "properties",
    "patternProperties",
    "additionalProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedProperties",
    "unevaluatedItems",
];

/// An unknown keyword says nothing of a value; one that is a known one but for its case or a letter
/// was meant to.
pub(crate) fn check_annotation(keyword: &str, at: &str) -> Result<(), GrammarError> {
    // Set apart on purpose, or known.
    if keyword.starts_with(['_', '$'])
        || ANNOTATIONS.contains(&keyword)
        || ASSERTIONS.contains(&keyword)
    {
        return Ok(());
    }
    let near = |known: &&&str| known.len() >= 5 && is_slip(keyword, known);
    match ASSERTIONS.iter().find(near) {
        Some(known) => Err(refuse(
            at,
            &format!("keyword `{keyword}` is not known; `{known}` is"),
        )),
        None => Ok(()),
    }
}

/// Whether one text is the other with another case, or with one letter more, less or changed.
fn is_slip(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let n_before = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[n_before..], &b[n_before..]);
    let n_after = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    a.len().max(b.len()) - n_after <= 1
}

pub(crate) fn map<'v>(at: &str, value: &'v Value) -> Result<&'v Map<String, Value>, GrammarError> {
    value
        .as_object()
        .ok_or_else(|| refuse(at, "an object of schemas is needed"))
}

pub(crate) fn read_types(at: &str, value: &Value) -> Result<u8, GrammarError> {
    let names = match value {
        Value::Array(names) if !names.is_empty() => names.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut union = 0;
    for name in names {
        union |= match name.as_str() {
            Some("null") => types::NULL,
            Some("boolean") => types::BOOLEAN,
            Some("object") => types::OBJECT,
            Some("array") => types::ARRAY,
            Some("string") => types::STRING,
            Some("integer") => types::INTEGER,
            Some("number") => types::NUMBER,
            Some("any") => types::ALL,
            Some(other) => return Err(refuse(at, &format!("`{other}` is not a JSON type"))),
            None => return Err(refuse(at, "`type` is the name of a JSON type, or several")),
        };
    }
    Ok(union)
}

pub(crate) fn read_names(at: &str, value: &Value) -> Result<Vec<Arc<str>>, GrammarError> {
    let names = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let read: Option<Vec<Arc<str>>> = names.iter().map(|v| v.as_str().map(Arc::from)).collect();
    match read {
        Some(read) if value.is_array() => Ok(read),
        _ => Err(refuse(at, "an array of property names is needed")),
    }
}

/// The bounds of two keywords, if either is there.
pub(crate) fn read_bounds(
    keywords: &Map<String, Value>,
    low: &str,
    high: &str,
    at: &str,
) -> Result<Option<Bounds>, GrammarError> {
    let read = |keyword: &str| match keywords.get(keyword) {
        Some(value) => read_count(&child(at, keyword), value).map(Some),
        None => Ok(None),
    };
    let (min, max) = (read(low)?, read(high)?);
    Ok((min.is_some() || max.is_some()).then_some(Bounds {
        min: min.unwrap_or(0),
        max,
    }))
}

/// A count; one beyond `u32` is no bound that an output could meet, and stays the largest.
fn read_count(at: &str, value: &Value) -> Result<u32, GrammarError> {
    let whole = value
        .as_f64()
        .filter(|count| *count >= 0.0 && count.fract() == 0.0);
    whole
        .map(|count| count as u32)
        .ok_or_else(|| refuse(at, "a whole number is needed"))
}

pub(crate) fn read_multiple(at: &str, value: &Value) -> Result<i128, GrammarError> {
    let Value::Number(number) = value else {
        return Err(refuse(at, "a number is needed"));
    };
    match OnGrid::new(number).exact() {
        Some(multiple) if multiple > 0 => Ok(multiple),
        Some(_) => Err(refuse(at, "a number above 0 is needed")),
        None => {
            let message = "at most 18 digits before the point and 17 after it are supported";
            Err(refuse(at, message))
        }
    }
}
