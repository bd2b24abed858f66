//! Arguments: text and JSON to the values of a program's inputs.

use lmrun_lang::ast::{Type, TypeKind};
use lmrun_lang::{Checked, Host, Input, Program};
use serde_json::Value;

use crate::conform::{conform, show};
use crate::constraint::{self, resolve};
use crate::value;

/// A program's arguments by name.
pub type Arguments = serde_json::Map<String, Value>;

/// Why an argument does not fit its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The program has no input of this name.
    #[error("the program has no input `{name}`; {inputs}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are, as a sentence.
        inputs: String,
    },
    /// An input without a default was given no value.
    #[error("the input `{name}` ({expected}) was given no value")]
    Missing {
        /// The input.
        name: String,
        /// Its type.
        expected: String,
    },
    /// The value is not of the input's type.
    #[error("the argument `{name}` must be {expected}, given {given}")]
    Mismatch {
        /// The input, with the path inside its value.
        name: String,
        /// What is wanted there.
        expected: String,
        /// What was given there.
        given: String,
    },
}

/// The checker's questions, answered by the automata that would enforce the constraints.
struct Automata;

impl Host for Automata {
    fn regex(&self, pattern: &str) -> Result<(), String> {
        constraint::regex(pattern).map(drop)
    }

    fn schema(&self, schema: &Value) -> Result<(), (String, String)> {
        constraint::schema(schema)
            .map(drop)
            .map_err(|message| match message.split_once(": ") {
                Some((pointer, message)) if pointer.starts_with('#') => {
                    (pointer.to_owned(), message.to_owned())
                }
                _ => ("#".to_owned(), message),
            })
    }
}

/// Checks a source, with the constraints judged by the automata that would enforce them.
#[must_use]
pub fn check(file_name: &str, source: &str) -> Checked {
    lmrun_lang::check(file_name, source, &Automata)
}

/// The value of the input `name` from text (`--arg name=text`), read by the input's declared type: a string stays as
/// it is, everything else is JSON. Where a type holds strings and other values, text that is JSON of the type is read
/// as such.
///
/// # Errors
/// [`ArgumentError::Unknown`], [`ArgumentError::Mismatch`].
pub fn parse_argument(program: &Program, name: &str, text: &str) -> Result<Value, ArgumentError> {
    let input = find(program, name)?;
    let string = Value::String(text.to_owned());
    if is_text(program, input.ty) {
        return fit(program, &input, string);
    }
    match serde_json::from_str(text) {
        Ok(value) => {
            let value = if conform(program, input.ty, &value).is_ok() {
                value
            } else {
                string
            };
            fit(program, &input, value)
        }
        Err(_) => fit(program, &input, string),
    }
}

/// Whether every value of the type is a string.
fn is_text(program: &Program, ty: &Type) -> bool {
    match &resolve(program, ty).kind {
        TypeKind::Named(name, _) => name.text == "string",
        TypeKind::Regex(_) => true,
        TypeKind::Literal(literal) => value::literal_value(literal).is_string(),
        TypeKind::Union(members) => members.iter().all(|member| is_text(program, member)),
        _ => false,
    }
}

/// The input of this name.
pub(crate) fn find<'p>(program: &'p Program, name: &str) -> Result<Input<'p>, ArgumentError> {
    program
        .inputs()
        .find(|input| input.name.text == name)
        .ok_or_else(|| {
            let names: Vec<String> = program
                .inputs()
                .map(|input| format!("`{}`", input.name.text))
                .collect();
            let inputs = match names.as_slice() {
                [] => "it has none".to_owned(),
                names => format!("its inputs are {}", names.join(", ")),
            };
            ArgumentError::Unknown {
                name: name.to_owned(),
                inputs,
            }
        })
}

/// `value`, if it is of the input's type.
pub(crate) fn fit(
    program: &Program,
    input: &Input<'_>,
    value: Value,
) -> Result<Value, ArgumentError> {
    match conform(program, input.ty, &value) {
        Ok(()) => Ok(value),
        Err(mismatch) => Err(ArgumentError::Mismatch {
            name: format!("{}{}", input.name.text, mismatch.path),
            expected: mismatch.expected,
            given: mismatch.given,
        }),
    }
}

/// The error of an input that has neither an argument nor a default.
pub(crate) fn missing(input: &Input<'_>) -> ArgumentError {
    ArgumentError::Missing {
        name: input.name.text.clone(),
        expected: show(input.ty),
    }
}
