//! Getting a model: from a name to a file or folder on this machine that is whole and undamaged.
//!
//! A name is a known one (`smollm2`), a path, or `hf:ORG/REPO[:QUANT]`. Known models live in lmrun's own cache, models of
//! the Hugging Face hub in the hub's. See docs/models.md.

mod error;
mod files;
mod http;
mod hub;
mod known;
mod name;
mod report;
mod settings;
mod store;
mod verified;
mod wheel;

use std::path::PathBuf;

pub use error::{Mismatch, ModelsError};
pub use known::DEFAULT;
pub use report::{Bytes, Report, Silent, StandardError};
pub use store::{Entry, Store};

/// The default model's file, fetched if it is not in the cache; tells of a fetch on standard error.
///
/// # Errors
/// [`ModelsError`]
pub fn ensure_default() -> Result<PathBuf, ModelsError> {
    Store::from_env(false, StandardError::default())?.locate(DEFAULT)
}
