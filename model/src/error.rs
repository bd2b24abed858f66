//! What can go wrong while a checkpoint is read or run.

use std::path::PathBuf;

/// An error of this crate. Messages name the file and both what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the checkpoint could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the checkpoint is damaged, incomplete or contradicts itself.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is sound, but asks for something that this crate does not do.
    #[error("{}: not supported: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The architecture, tokenizer or option that is not supported.
        what: String,
    },
    /// A decoder was asked for with options it cannot have.
    #[error("decoder options: {0}")]
    Options(String),
    /// A batch breaks the decoder's contract: an unknown token, a missing page, a context overrun.
    #[error("batch: {0}")]
    Batch(String),
    /// A GPU computes something else than the CPU, or nothing.
    #[error("the GPU failed its trial: {0}")]
    Trial(String),
    /// The chat template refused the messages with `raise_exception`; the text is the template's.
    #[error("{0}")]
    TemplateRaised(String),
    /// The chat template does not parse, or failed, or ran over its time or output bound.
    #[error("chat template: {0}")]
    Template(String),
}
