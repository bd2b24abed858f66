//! Why a command failed: one message for a person, one exit code for a script, one error for an envelope.

use lmrun::models::ModelsError;
use lmrun_interpreter::{Envelope, ErrorKind, RunError, Status, Usage};
use serde_json::Value;

/// The stable exit codes of `lmrun`. A run that happened has its own, [`Envelope::exit_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    /// All is well, or nobody reads any more.
    pub(crate) const OK: Self = Self(0);
    /// What was asked for failed: here, a suite's answer was wrong.
    pub(crate) const FAILED: Self = Self(1);
    /// The command line or an argument is wrong.
    pub(crate) const USAGE: Self = Self(2);
    /// The program has errors.
    pub(crate) const CHECK: Self = Self(3);
    /// The model or the machine failed.
    pub(crate) const BACKEND: Self = Self(6);
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: Self = Self(130);

    /// That of a run.
    pub(crate) fn of(envelope: &Envelope) -> Self {
        u8::try_from(envelope.exit_code()).map_or(Self::BACKEND, Self)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.0)
    }
}

/// What went wrong, and how the process ends.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ExitCode,
    error: Box<RunError>,
}

impl Failure {
    fn new(code: ExitCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        let error = RunError {
            kind,
            message: message.into(),
            code: None,
            span: None,
            line: 0,
            column: 0,
            branch: None,
        };
        Self {
            code,
            error: Box::new(error),
        }
    }

    /// The command line or an argument is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::USAGE, ErrorKind::Arguments, message)
    }

    /// The model or the machine failed.
    pub(crate) fn backend(message: impl Into<String>) -> Self {
        Self::new(ExitCode::BACKEND, ErrorKind::Backend, message)
    }

    /// Somebody pressed ctrl-C before the run began.
    pub(crate) fn interrupted() -> Self {
        Self::new(ExitCode::INTERRUPTED, ErrorKind::Interrupted, "interrupted")
    }

    /// The program has errors; `first` stands for them in an envelope.
    pub(crate) fn check(message: impl Into<String>, first: Option<RunError>) -> Self {
        let mut failure = Self::new(ExitCode::CHECK, ErrorKind::Check, message);
        if let Some(first) = first {
            let message = failure.error.message;
            *failure.error = RunError {
                message: format!("{message}: {}", first.message),
                ..first
            };
        }
        failure
    }

    /// Nobody reads standard output any more. There is nothing to say, and nobody to say it to.
    pub(crate) fn closed() -> Self {
        Self::new(ExitCode::OK, ErrorKind::Interrupted, "")
    }

    /// How the process ends.
    pub(crate) fn code(&self) -> ExitCode {
        self.code
    }

    /// The message for a person; none when there is nobody to tell.
    pub(crate) fn message(&self) -> Option<&str> {
        (self.code != ExitCode::OK).then_some(self.error.message.as_str())
    }

    /// The envelope of a run that did not come about.
    pub(crate) fn envelope(&self, seed: Option<u64>) -> Envelope {
        let status = match self.error.kind {
            ErrorKind::Interrupted => Status::Interrupted,
            _ => Status::Error,
        };
        Envelope {
            status,
            result: Value::Null,
            gens: Default::default(),
            usage: Usage::default(),
            seed: seed.unwrap_or_default(),
            error: Some((*self.error).clone()),
        }
    }
}

impl From<ModelsError> for Failure {
    fn from(error: ModelsError) -> Self {
        Self::backend(error.to_string())
    }
}
