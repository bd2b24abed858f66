//! A compiled language of outputs.

use crate::{GrammarError, Limits};

/// A language of outputs: what a generation must match as a whole. Immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Constraint {}

impl Constraint {
    /// The strings that match `pattern` as a whole.
    pub fn regex(pattern: &str, limits: &Limits) -> Result<Self, GrammarError> {
        let _ = (pattern, limits);
        Ok(Self {})
    }

    /// Exactly the strings of `options`.
    pub fn choices<S: AsRef<str>>(options: &[S], limits: &Limits) -> Result<Self, GrammarError> {
        let _ = (options.len(), limits);
        Ok(Self {})
    }

    /// The compact JSON texts that satisfy `schema`.
    pub fn json_schema(schema: &serde_json::Value, limits: &Limits) -> Result<Self, GrammarError> {
        let _ = (schema, limits);
        Ok(Self {})
    }

    /// Any UTF-8 text.
    pub fn text() -> Self {
        Self {}
    }

    /// The outputs that begin with `prefix` and then satisfy `self` (token healing).
    pub fn with_prefix(self, prefix: &[u8]) -> Self {
        let _ = prefix;
        self
    }
}
