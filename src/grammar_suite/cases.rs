//! The lines of a suite: `{name, schema | regex | grammar, tests: [{valid, data}], documents?}`, read one at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{InputError, Source};

/// Bytes of a file.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Bytes of a line, its newline included.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// An instance and whether the constraint must accept it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Test {
    /// Whether it satisfies the constraint.
    pub valid: bool,
    /// The instance: of a schema a value, else a string that is the output itself.
    pub data: Value,
}

/// A constraint and its instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is reported by.
    pub name: String,
    /// The constraint.
    pub source: Source,
    /// What a schema may refer to, by URI.
    pub documents: Arc<HashMap<String, Value>>,
    /// The instances.
    pub tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    // `null` is no schema, so it may stand for none.
    schema: Option<Value>,
    regex: Option<String>,
    grammar: Option<String>,
    #[serde(default)]
    documents: HashMap<String, Value>,
    tests: Vec<Test>,
}

impl Case {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let source = match (line.schema, line.regex, line.grammar) {
            (Some(schema), None, None) => Source::Schema(schema),
            (None, Some(pattern), None) => Source::Regex(pattern),
            (None, None, Some(grammar)) => Source::Grammar(grammar),
            _ => return Err("expected one of `schema`, `regex` and `grammar`".into()),
        };
        let is_schema = matches!(source, Source::Schema(_));
        if let Some(test) = line
            .tests
            .iter()
            .find(|t| !is_schema && !t.data.is_string())
        {
            let (kind, data) = (source.kind(), &test.data);
            return Err(format!("`data` of a {kind} is a string, not {data}"));
        }
        Ok(Self {
            name: line.name,
            source,
            documents: Arc::new(line.documents),
            tests: line.tests,
        })
    }
}

/// The cases of a file, in order. Empty lines are passed over.
#[derive(Debug)]
pub struct Cases {
    path: PathBuf,
    lines: BufReader<File>,
    n_bytes: u64,
    n_lines: usize,
    n_read: u64,
}

impl Cases {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read or is too long.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let read_error = |error| InputError::Read {
            path: path.into(),
            error,
        };
        let file = File::open(path).map_err(read_error)?;
        let n_bytes = file.metadata().map_err(read_error)?.len();
        if n_bytes > MAX_FILE_BYTES {
            return Err(InputError::TooLong {
                path: path.into(),
                limit: MAX_FILE_BYTES,
            });
        }
        Ok(Self {
            path: path.into(),
            lines: BufReader::new(file),
            n_bytes,
            n_lines: 0,
            n_read: 0,
        })
    }

    /// Bytes of the file.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Bytes read so far.
    pub fn n_read(&self) -> u64 {
        self.n_read
    }

    fn read(&mut self) -> Result<Option<Case>, InputError> {
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.lines).take(MAX_LINE_BYTES + 1);
            let read = limited.read_until(b'\n', &mut line);
            let n_bytes = read.map_err(|error| InputError::Read {
                path: self.path.clone(),
                error,
            })? as u64;
            if n_bytes == 0 {
                return Ok(None);
            }
            self.n_lines += 1;
            self.n_read += n_bytes;
            let wrong = |message| InputError::Line {
                path: self.path.clone(),
                line: self.n_lines,
                message,
            };
            if n_bytes > MAX_LINE_BYTES {
                return Err(wrong(format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                return Case::parse(&line).map(Some).map_err(wrong);
            }
        }
    }
}

impl Iterator for Cases {
    type Item = Result<Case, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests;
