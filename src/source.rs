//! Reading a program's text: a file or standard input, within the language's size limit, as UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;
use lmrun_lang::MAX_BYTES;

/// A program's text and the name its diagnostics use.
pub(crate) struct Source {
    /// The path as given, or `<stdin>`.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

/// Reads a program.
pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
    let name = if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() };
    let bytes = read_bytes(path)
        .map_err(|error| Failure::usage(format!("cannot read the program {name}: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::usage(format!(
            "the program {name} is longer than the limit of {MAX_BYTES} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("the program {name} is not UTF-8: byte {at} is no character"))
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
