//! Types as constraints on a generation, and back: the generated text as a value of the type.
//!
//! At the top of a `gen`, a type reads as its user would write the value down: a `string` and a `/regex/` are raw text,
//! numbers, booleans and literals are bare, and everything else is compact JSON.

use std::sync::{Arc, LazyLock};

use lmrun_grammar::{Constraint, ConstraintCache, GrammarError, Limits, Matcher, Vocabulary};
use lmrun_lang::Program;
use lmrun_lang::ast::{Bounds, Number, Type, TypeKind};
use serde_json::Value;

use crate::value::{self, literal_value};

/// Bytes of the constraints kept for other runs: a server runs one program many times.
const MAX_KEPT_BYTES: usize = 256 << 20;

static KEPT: LazyLock<ConstraintCache> = LazyLock::new(|| ConstraintCache::new(MAX_KEPT_BYTES));

/// The most names followed from a type to what it stands for.
const MAX_ALIASES: usize = 64;

/// What a generation of a type looks like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// What holds it to the type; none for free text.
    pub(crate) constraint: Option<Constraint>,
    /// How its text becomes a value.
    pub(crate) reading: Reading,
}

/// How a generation's text becomes a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// The text itself. The flag says whether any shortening of it is still of the type.
    Text(Cut),
    /// The literal with this text.
    Literals(Vec<Value>),
    /// JSON.
    Json,
}

/// Whether a text that is cut short is still of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Allowed,
    Breaks,
}

impl Shape {
    /// Free text.
    pub(crate) fn text() -> Self {
        Self {
            constraint: None,
            reading: Reading::Text(Cut::Allowed),
        }
    }

    /// The shape of a generation of type `ty`.
    ///
    /// # Errors
    /// Why no automaton can hold a generation to it.
    pub(crate) fn of(program: &Program, ty: &Type) -> Result<Self, String> {
        let ty = resolve(program, ty);
        if let Some(literals) = literals(program, ty) {
            let texts: Vec<String> = literals.iter().map(value::text).collect();
            let distinct: std::collections::HashSet<&String> = texts.iter().collect();
            if distinct.len() == texts.len() {
                let constraint = Constraint::choices(&texts, &Limits::default())
                    .map_err(|error| error.to_string())?;
                let reading = Reading::Literals(literals);
                return Ok(Self {
                    constraint: Some(constraint),
                    reading,
                });
            }
        }
        match &ty.kind {
            TypeKind::Regex(pattern) => Ok(Self {
                constraint: Some(regex(pattern)?),
                reading: Reading::Text(Cut::Breaks),
            }),
            TypeKind::Named(name, bounds) if name.text == "string" => string(*bounds),
            TypeKind::Grammar(_) => Err("`grammar` types cannot be generated".into()),
            TypeKind::Call(_) => Err("`call` types cannot be generated".into()),
            _ => {
                let constraint = schema(&program.json_schema(ty))?;
                Ok(Self {
                    constraint: Some(constraint),
                    reading: Reading::Json,
                })
            }
        }
    }

    /// The value of a finished text.
    ///
    /// # Errors
    /// Why the text is no value of the type.
    pub(crate) fn read(&self, text: &str) -> Result<Value, String> {
        match &self.reading {
            Reading::Text(_) => Ok(Value::String(text.to_owned())),
            Reading::Literals(literals) => literals
                .iter()
                .find(|literal| value::text(literal) == text)
                .cloned()
                .ok_or_else(|| format!("{} is none of the type's values", value::brief_text(text))),
            Reading::Json => serde_json::from_str(text)
                .map_err(|error| format!("{} is not JSON: {error}", value::brief_text(text))),
        }
    }
}

/// A bounded or unbounded string, as raw text.
fn string(bounds: Option<Bounds>) -> Result<Shape, String> {
    let (low, high) = length_bounds(bounds);
    let constraint = match (low, high) {
        (0, None) => None,
        (low, None) => Some(regex(&format!(r"[\s\S]{{{low},}}"))?),
        (low, Some(high)) => Some(regex(&format!(r"[\s\S]{{{low},{high}}}"))?),
    };
    let cut = if low == 0 { Cut::Allowed } else { Cut::Breaks };
    Ok(Shape {
        constraint,
        reading: Reading::Text(cut),
    })
}

/// Bounds on a length as whole numbers.
pub(crate) fn length_bounds(bounds: Option<Bounds>) -> (usize, Option<usize>) {
    let whole = |number: Number| match number {
        Number::Int(n) => usize::try_from(n).unwrap_or(0),
        Number::Float(x) => x as usize,
    };
    let low = bounds.and_then(|bounds| bounds.low).map_or(0, whole);
    (low, bounds.and_then(|bounds| bounds.high).map(whole))
}

/// What a type stands for once names of the program are followed.
pub(crate) fn resolve<'p>(program: &'p Program, mut ty: &'p Type) -> &'p Type {
    for _ in 0..MAX_ALIASES {
        match &ty.kind {
            TypeKind::Named(name, _) => match program.type_of_name(&name.text) {
                Some(definition) => ty = definition,
                None => break,
            },
            _ => break,
        }
    }
    ty
}

/// The values of a type that is a literal or a union of literals.
pub(crate) fn literals(program: &Program, ty: &Type) -> Option<Vec<Value>> {
    match &resolve(program, ty).kind {
        TypeKind::Literal(literal) => Some(vec![literal_value(literal)]),
        TypeKind::Union(members) => {
            let members: Option<Vec<_>> = members
                .iter()
                .map(|member| literals(program, member))
                .collect();
            Some(members?.concat())
        }
        _ => None,
    }
}

/// Any text that begins with `start`. All such constraints share one automaton and its masks.
pub(crate) fn text_from(start: &str) -> Constraint {
    static TEXT: LazyLock<Constraint> = LazyLock::new(Constraint::text);
    TEXT.clone().with_prefix(start.as_bytes())
}

/// A regex as a constraint, from the automata kept if it is there.
///
/// # Errors
/// Why it cannot be honoured.
pub(crate) fn regex(pattern: &str) -> Result<Constraint, String> {
    let compile = || Constraint::regex(pattern, &Limits::default());
    KEPT.get_or_compile(&format!("/{pattern}"), compile)
        .map_err(|error| error.to_string())
}

/// A JSON Schema as a constraint, from the automata kept if it is there.
///
/// # Errors
/// Why it cannot be honoured.
pub(crate) fn schema(schema: &Value) -> Result<Constraint, String> {
    let compile = || Constraint::json_schema(schema, &Limits::default());
    KEPT.get_or_compile(&format!("{{{schema}"), compile)
        .map_err(|error| error.to_string())
}

/// Whether `text` as a whole satisfies `constraint`: the automaton of generation, fed byte by byte.
///
/// # Errors
/// A limit of the automaton.
pub(crate) fn accepts(constraint: &Constraint, text: &str) -> Result<bool, String> {
    static BYTES: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
        let bytes = (0..=u8::MAX)
            .map(|byte| Some([byte].into()))
            .chain([None])
            .collect();
        Arc::new(Vocabulary::new(bytes, vec![256]))
    });
    let mut matcher =
        Matcher::new(constraint.clone(), Arc::clone(&BYTES)).map_err(|error| error.to_string())?;
    for byte in text.bytes() {
        match matcher.accept(byte.into()) {
            Ok(()) => {}
            Err(GrammarError::IllegalToken { .. }) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(matcher.is_complete())
}

#[cfg(test)]
mod tests;
