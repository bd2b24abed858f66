//! What a constraint is compiled from: the one place that knows every kind.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lmrun_grammar::{Constraint, JsonOptions, Limits};
use serde_json::Value;

use super::{InputError, Refusal};

/// Bytes of a file that holds one constraint. More than any limit of the grammar crate, which then says what is too long.
const MAX_BYTES: u64 = 16 << 20;

/// A constraint before it is compiled.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A JSON Schema.
    Schema(Value),
    /// A regex that an output must match as a whole.
    Regex(String),
    /// A grammar in Lark's dialect or llama.cpp's.
    Grammar(String),
}

impl Source {
    /// Reads a file; its ending says what it holds: `.json` a schema, `.regex` or `.txt` a regex, without the newline at
    /// its end, `.lark` or `.gbnf` a grammar.
    ///
    /// # Errors
    /// If it cannot be read, is too long or not UTF-8, has another ending, or should be JSON and is not.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let parse: fn(String) -> Result<Self, serde_json::Error> = match ending {
            Some("json") => |text| serde_json::from_str(&text).map(Self::Schema),
            Some("regex" | "txt") => |text| {
                let pattern = text.strip_suffix('\n').unwrap_or(&text);
                let pattern = pattern.strip_suffix('\r').unwrap_or(pattern);
                Ok(Self::Regex(pattern.to_owned()))
            },
            Some("lark" | "gbnf") => |text| Ok(Self::Grammar(text)),
            _ => return Err(InputError::Ending { path: path.into() }),
        };
        parse(read_text(path, MAX_BYTES)?).map_err(|error| InputError::Line {
            path: path.into(),
            line: error.line().max(1),
            message: format!("not JSON: {error}"),
        })
    }

    /// Compiles it; the options are a schema's alone.
    ///
    /// # Errors
    /// If it is malformed, not supported, too large, or nothing satisfies it.
    pub fn compile(&self, options: &JsonOptions) -> Result<Constraint, Refusal> {
        let limits = Limits::default();
        Ok(match self {
            Self::Schema(schema) => Constraint::json_schema_with(schema, options, &limits)?,
            Self::Regex(pattern) => Constraint::regex(pattern, &limits)?,
            // Only llama.cpp's dialect defines with `::=`.
            Self::Grammar(source) if source.contains("::=") => Constraint::gbnf(source, &limits)?,
            Self::Grammar(source) => Constraint::lark(source, &limits)?,
        })
    }

    /// What it is, for a person.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Schema(_) => "schema",
            Self::Regex(_) => "regex",
            Self::Grammar(_) => "grammar",
        }
    }
}

/// A text file of at most `limit` bytes, in one piece.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<String, InputError> {
    let read_error = |error| InputError::Read {
        path: path.into(),
        error,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    // One byte more than the limit, so that an endless input ends.
    let n_read = file
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(read_error)?;
    if n_read as u64 > limit {
        let path = path.into();
        return Err(InputError::TooLong { path, limit });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        InputError::Line {
            path: path.into(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            message: "not UTF-8".into(),
        }
    })
}
