//! The checker: everything that can be known before the first token.

use serde_json::Value;

use crate::{Diagnostic, Program, syntax};

/// What the checker asks about constraints it cannot judge itself.
pub trait Host {
    /// Whether the pattern can be honoured as a constraint; the reason if not.
    fn regex(&self, pattern: &str) -> Result<(), String>;
    /// Whether the schema can be honoured; the JSON pointer of the offending keyword and the reason if not.
    fn schema(&self, schema: &Value) -> Result<(), (String, String)>;
}

/// A host that accepts every constraint.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn regex(&self, _pattern: &str) -> Result<(), String> {
        Ok(())
    }

    fn schema(&self, _schema: &Value) -> Result<(), (String, String)> {
        Ok(())
    }
}

/// What checking a file came to.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The program, if and only if no finding is an error.
    pub program: Option<Program>,
    /// All findings, sorted by their place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses and checks a file.
pub fn check(file_name: &str, source: &str, host: &dyn Host) -> Checked {
    let _ = host;
    let (ast, diagnostics) = syntax::parse(source);
    let program = diagnostics
        .is_empty()
        .then(|| Program::new(file_name, source, ast));
    Checked {
        program,
        diagnostics,
    }
}
