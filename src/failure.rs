//! Why a command failed: one message for a person, one exit code for a script.

use std::fmt;

use lmrun::models::ModelsError;

/// The stable exit codes of `lmrun`; a run's own are in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// The command line or an argument is wrong.
    Usage = 2,
    /// The program has errors.
    Check = 3,
    /// The model or the machine failed.
    Backend = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

/// What went wrong, where, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) code: ExitCode,
    message: String,
}

impl Failure {
    /// The command line or an argument is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Usage, message: message.into() }
    }

    /// The program has errors.
    pub(crate) fn check(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Check, message: message.into() }
    }

    /// The model or the machine failed.
    pub(crate) fn backend(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Backend, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ModelsError> for Failure {
    fn from(error: ModelsError) -> Self {
        Self::backend(error.to_string())
    }
}
