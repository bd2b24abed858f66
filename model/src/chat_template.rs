//! Chat templates: messages to the text that a checkpoint was trained on.

use serde_json::Value;

use crate::ModelError;

/// A compiled chat template.
pub struct ChatTemplate {
    source: String,
}

impl ChatTemplate {
    pub(crate) fn new(source: &str, _tokenizer: &crate::Tokenizer) -> Result<Self, ModelError> {
        Ok(Self {
            source: source.to_owned(),
        })
    }

    /// The template's text, as the checkpoint holds it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages` (an array of objects with `role` and `content`) and `tools`.
    ///
    /// # Errors
    /// [`ModelError::TemplateRaised`] with the template's own words, or [`ModelError::Template`].
    pub fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let _ = (messages, tools, add_generation_prompt);
        Err(ModelError::Template("not loaded".into()))
    }
}
