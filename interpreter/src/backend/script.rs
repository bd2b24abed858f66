//! A backend that plays given texts.

/// A backend that plays given texts by generation name.
#[derive(Default)]
pub struct ScriptBackend {}

/// A call that a [`ScriptBackend`] served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {}

impl ScriptBackend {
    /// A script without lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
