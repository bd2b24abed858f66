//! Putting the grammar crate to the test: does it take a schema, what does it cost, and does it tell valid instances from
//! invalid ones. What `lmrun grammar` does, without the printing.
//!
//! Words: a *case* is a constraint with instances, each known to be valid or not; an *over*-constrained case refuses a valid
//! instance, an *under*-constrained one accepts an invalid one. Format and definitions are those of MaskBench
//! (<https://github.com/guidance-ai/jsonschemabench>). See docs/constraints.md.

mod cases;
mod examine;
mod keywords;
mod ranks;
mod refusal;
mod replay;
mod report;
mod source;
mod timing;
mod walk;

use std::path::PathBuf;

pub use cases::{Case, Cases, Test};
pub use examine::{Examination, examine};
pub use keywords::keywords;
pub use ranks::read_vocabulary;
pub use refusal::Refusal;
pub use replay::{Suite, Verdict};
pub use report::Report;
pub use source::Source;
pub use timing::{Percentiles, Timings};
pub use walk::{FREE_TOKENS, Random, walk};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is longer than it may be.
    #[error("{} is longer than the limit of {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes it may have.
        limit: u64,
    },
    /// A line of it is wrong.
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Its name does not say what it holds.
    #[error("{}: the file's ending must be one of .json, .regex, .txt, .lark and .gbnf", path.display())]
    Ending {
        /// The file.
        path: PathBuf,
    },
}
