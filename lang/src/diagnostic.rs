//! What the checks say: one finding with a stable code, and its human and machine forms.

use std::fmt;

use serde::Serialize;

use crate::ast::Span;

mod codes;
mod render;
#[cfg(test)]
mod tests;

pub use render::{line_column, render, to_json};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The program cannot run.
    Error,
    /// The program runs, and probably not as meant.
    Warning,
    /// The program runs, and could share more of its prompt.
    Hint,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Its stable code: `E` errors, `W` warnings, `L` cache hints.
    pub code: &'static str,
    /// How serious it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What stands there, in a few words.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding whose severity is that of its code's letter.
    pub(crate) fn new(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        let severity = match code.as_bytes()[0] {
            b'W' => Severity::Warning,
            b'L' => Severity::Hint,
            _ => Severity::Error,
        };
        let message = message.into();
        Diagnostic {
            code,
            severity,
            message,
            span,
            label: String::new(),
            help: None,
        }
    }

    /// With what stands at the place, in a few words.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// With what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Whether it keeps the program from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The long explanation of a code, or none for a code that does not exist.
pub fn explain(code: &str) -> Option<&'static str> {
    codes::CODES
        .iter()
        .find(|(own, _)| own.eq_ignore_ascii_case(code))
        .map(|(_, text)| *text)
}
