//! The command line's arguments to a program's inputs.

use std::io::Read;

use lmrun_interpreter::{Arguments, parse_argument};
use lmrun_lang::Program;
use serde_json::Value;

use crate::cli::RunOptions;
use crate::failure::Failure;

/// The program's arguments: the JSON object first, then each `--arg` over it. An input that is left without a value is
/// an error here, before a model is loaded for nothing.
pub(super) fn read(program: &Program, options: &RunOptions) -> Result<Arguments, Failure> {
    let mut arguments = match &options.arg_json {
        Some(text) => object(text)?,
        None => Arguments::new(),
    };
    for argument in &options.arguments {
        let (name, text) = argument.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "--arg {argument}: write --arg name=value or name=@file"
            ))
        })?;
        let text = match text.strip_prefix('@') {
            None => text.to_owned(),
            Some(path) => text_of(path).map_err(|error| {
                Failure::usage(format!("--arg {name}: cannot read {path}: {error}"))
            })?,
        };
        let value = parse_argument(program, name, &text)
            .map_err(|error| Failure::usage(error.to_string()))?;
        arguments.insert(name.to_owned(), value);
    }
    let missing = program
        .inputs()
        .find(|input| input.default.is_none() && !arguments.contains_key(&input.name.text));
    match missing {
        None => Ok(arguments),
        Some(input) => {
            let name = &input.name.text;
            Err(Failure::usage(format!(
                "the input `{name}` was given no value: --arg {name}=.."
            )))
        }
    }
}

fn object(text: &str) -> Result<Arguments, Failure> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Failure::usage(format!(
            "--arg-json must be a JSON object, given {other}"
        ))),
        Err(error) => Err(Failure::usage(format!("--arg-json is not JSON: {error}"))),
    }
}

/// The text of a file, or of standard input.
fn text_of(path: &str) -> std::io::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}
