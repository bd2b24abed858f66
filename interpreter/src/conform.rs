//! Whether a value is of a type: arguments against inputs, `return` against a function's declared result, `match`.

use lmrun_lang::Program;
use lmrun_lang::ast::{Bounds, Field, Number, Type, TypeKind};
use serde_json::{Map, Value};

use crate::constraint::{self, length_bounds};
use crate::value::{self, literal_value};

/// Where a value departs from its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The way from the whole value: `.languages[2]`.
    pub(crate) path: String,
    /// What is wanted there.
    pub(crate) expected: String,
    /// What is there.
    pub(crate) given: String,
}

impl Mismatch {
    fn new(expected: impl Into<String>, given: &Value) -> Self {
        let given = format!("{} {}", value::kind(given), value::brief(given));
        Self {
            path: String::new(),
            expected: expected.into(),
            given,
        }
    }

    fn inside(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }
}

/// Checks that `value` is of type `ty`.
///
/// # Errors
/// The first place where it is not.
pub(crate) fn conform(program: &Program, ty: &Type, value: &Value) -> Result<(), Mismatch> {
    let fits = match &ty.kind {
        TypeKind::Named(name, bounds) => {
            return match program.type_of_name(&name.text) {
                Some(definition) => conform(program, definition, value),
                None => builtin(&name.text, *bounds, ty, value),
            };
        }
        TypeKind::Regex(pattern) => match value {
            Value::String(text) => matches(pattern, text).unwrap_or(false),
            _ => false,
        },
        TypeKind::Literal(literal) => value::equal(&literal_value(literal), value),
        TypeKind::Record(fields) => return record(program, fields, ty, value),
        TypeKind::Union(members) => return union(program, members, ty, value),
        TypeKind::List(element, bounds) => return list(program, element, *bounds, ty, value),
        TypeKind::Optional(inner) => {
            return if value.is_null() {
                Ok(())
            } else {
                conform(program, inner, value)
            };
        }
        TypeKind::Schema(source) => serde_json::from_str(source)
            .map_err(|error| error.to_string())
            .and_then(|schema| constraint::schema(&schema))
            .and_then(|constraint| constraint::accepts(&constraint, &value.to_string()))
            .unwrap_or(false),
        TypeKind::Call(_) | TypeKind::Grammar(_) => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Mismatch::new(show(ty), value))
    }
}

/// Whether `text` as a whole matches `pattern`, in the dialect of generations.
///
/// # Errors
/// Why the pattern cannot be honoured.
pub(crate) fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    constraint::accepts(&constraint::regex(pattern)?, text)
}

fn builtin(name: &str, bounds: Option<Bounds>, ty: &Type, value: &Value) -> Result<(), Mismatch> {
    let fits = match (name, value) {
        ("json", _) | ("null", Value::Null) | ("bool", Value::Bool(_)) => true,
        ("string", Value::String(text)) => {
            let (low, high) = length_bounds(bounds);
            let n_chars = text.chars().count();
            if n_chars < low || high.is_some_and(|high| n_chars > high) {
                let given = format!("a string of {n_chars} characters");
                return Err(Mismatch {
                    path: String::new(),
                    expected: show(ty),
                    given,
                });
            }
            true
        }
        ("int", Value::Number(number)) => number.as_i64().is_some_and(|n| within(bounds, n as f64)),
        ("float", Value::Number(number)) => number.as_f64().is_some_and(|x| within(bounds, x)),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(Mismatch::new(show(ty), value))
    }
}

fn within(bounds: Option<Bounds>, x: f64) -> bool {
    let number = |number| match number {
        Number::Int(n) => n as f64,
        Number::Float(x) => x,
    };
    bounds.is_none_or(|bounds| {
        bounds.low.is_none_or(|low| x >= number(low))
            && bounds.high.is_none_or(|high| x <= number(high))
    })
}

fn record(program: &Program, fields: &[Field], ty: &Type, value: &Value) -> Result<(), Mismatch> {
    let Value::Object(map) = value else {
        return Err(Mismatch::new(show(ty), value));
    };
    for field in fields {
        match map.get(&field.name.text) {
            Some(item) => conform(program, &field.ty, item)
                .map_err(|mismatch| mismatch.inside(&format!(".{}", field.name.text)))?,
            None if field.optional => {}
            None => {
                return Err(Mismatch {
                    path: String::new(),
                    expected: format!("a map with the field `{}`", field.name.text),
                    given: keys(map),
                });
            }
        }
    }
    let known = |key: &str| fields.iter().any(|field| field.name.text == key);
    match map.keys().find(|key| !known(key)) {
        None => Ok(()),
        Some(_) => Err(Mismatch {
            path: String::new(),
            expected: show(ty),
            given: keys(map),
        }),
    }
}

fn keys(map: &Map<String, Value>) -> String {
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    match keys.as_slice() {
        [] => "an empty map".into(),
        keys => format!("a map with {}", keys.join(", ")),
    }
}

fn union(program: &Program, members: &[Type], ty: &Type, value: &Value) -> Result<(), Mismatch> {
    let mut inner = None;
    for member in members {
        match conform(program, member, value) {
            Ok(()) => return Ok(()),
            Err(mismatch) if !mismatch.path.is_empty() => inner = inner.or(Some(mismatch)),
            Err(_) => {}
        }
    }
    // With one member of the value's own form, its inner place says more than the list of members.
    Err(inner.unwrap_or_else(|| Mismatch::new(show(ty), value)))
}

fn list(
    program: &Program,
    element: &Type,
    bounds: Option<Bounds>,
    ty: &Type,
    value: &Value,
) -> Result<(), Mismatch> {
    let Value::Array(items) = value else {
        return Err(Mismatch::new(show(ty), value));
    };
    let (low, high) = length_bounds(bounds);
    if items.len() < low || high.is_some_and(|high| items.len() > high) {
        let given = format!("a list of {}", items.len());
        return Err(Mismatch {
            path: String::new(),
            expected: show(ty),
            given,
        });
    }
    items.iter().enumerate().try_for_each(|(idx, item)| {
        conform(program, element, item).map_err(|mismatch| mismatch.inside(&format!("[{idx}]")))
    })
}

/// A type as the source writes it, for messages; a record shows its fields' names.
pub(crate) fn show(ty: &Type) -> String {
    match &ty.kind {
        TypeKind::Named(name, bounds) => format!("{}{}", name.text, show_bounds(*bounds)),
        TypeKind::Regex(pattern) => format!("/{pattern}/"),
        TypeKind::Literal(literal) => literal_value(literal).to_string(),
        TypeKind::Record(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| {
                    format!(
                        "{}{}",
                        field.name.text,
                        if field.optional { "?" } else { "" }
                    )
                })
                .collect();
            format!("a map with the fields {}", fields.join(", "))
        }
        TypeKind::Union(members) => members.iter().map(show).collect::<Vec<_>>().join(" | "),
        TypeKind::List(element, bounds) => {
            let element = match element.kind {
                TypeKind::Union(_) => format!("({})", show(element)),
                _ => show(element),
            };
            format!("{element}[]{}", show_bounds(*bounds))
        }
        TypeKind::Optional(inner) => format!("{}?", show(inner)),
        TypeKind::Call(tools) => {
            let tools: Vec<&str> = tools.iter().map(|tool| tool.text.as_str()).collect();
            format!("call({})", tools.join(", "))
        }
        TypeKind::Schema(_) => "what the schema describes".into(),
        TypeKind::Grammar(_) => "what the grammar describes".into(),
    }
}

fn show_bounds(bounds: Option<Bounds>) -> String {
    let number = |number: Option<Number>| {
        number.map_or(String::new(), |number| {
            value::number_value(number).to_string()
        })
    };
    bounds.map_or(String::new(), |bounds| {
        format!("({}..{})", number(bounds.low), number(bounds.high))
    })
}
