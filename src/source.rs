//! Reading a program's text: a file or standard input, within the language's size limit, as UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lmrun_interpreter::{ErrorKind, Place, RunError};
use lmrun_lang::{Diagnostic, MAX_BYTES};

use crate::failure::Failure;

/// A program's text and the name its diagnostics use.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path as given, or `<stdin>`.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

impl Source {
    /// A diagnostic as the error of a run.
    pub(crate) fn error_of(&self, diagnostic: &Diagnostic) -> RunError {
        let before = self.text.get(..diagnostic.span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RunError {
            kind: ErrorKind::Check,
            message: diagnostic.message.clone(),
            code: Some(diagnostic.code),
            span: Some(Place(diagnostic.span)),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            branch: None,
        }
    }
}

/// Reads a program; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
    let name = if path == Path::new("-") {
        "<stdin>".into()
    } else {
        path.display().to_string()
    };
    let bytes = read_bytes(path)
        .map_err(|error| Failure::usage(format!("cannot read the program {name}: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::usage(format!(
            "the program {name} is longer than the limit of {MAX_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        Failure::usage(format!(
            "the program {name} is not UTF-8: line {line}, byte {at}"
        ))
    })?;
    Ok(Source { name, text })
}

/// At most one byte more than the limit, so that an endless input ends.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let limit = MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
