//! A local engine as a backend.

use async_trait::async_trait;
use lmrun_engine::{Generate, Handle, Token, TokenId};
use serde_json::Value;

use super::{Backend, BackendError, Capabilities, Cost, Generated, Prompt, Tokens};

/// A local engine.
pub struct EngineBackend {
    handle: Handle,
}

impl EngineBackend {
    /// A backend over a running engine.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

struct NoTokens;

impl Tokens for NoTokens {
    fn encode(&self, _text: &str) -> Vec<TokenId> {
        Vec::new()
    }
    fn encode_template(&self, _text: &str) -> Vec<TokenId> {
        Vec::new()
    }
    fn decode(&self, _tokens: &[TokenId]) -> String {
        String::new()
    }
    fn bytes(&self, _token: TokenId) -> Option<&[u8]> {
        None
    }
    fn extends(&self, _bytes: &[u8]) -> bool {
        false
    }
    fn is_end(&self, _token: TokenId) -> bool {
        false
    }
    fn begin(&self) -> Option<TokenId> {
        None
    }
}

#[async_trait]
impl Backend for EngineBackend {
    fn capabilities(&self) -> Capabilities {
        let _ = &self.handle;
        Capabilities {
            constraints: true,
            logprobs: true,
            chat: true,
            context_length: 0,
        }
    }

    fn tokens(&self) -> &dyn Tokens {
        &NoTokens
    }

    fn render_chat(&self, _messages: &Value, _prompt: bool) -> Result<String, String> {
        Err("the model has no chat template".into())
    }

    async fn generate(
        &self,
        _prompt: Prompt,
        _how: Generate,
        _on_token: &mut (dyn FnMut(&Token) + Send),
    ) -> Result<Generated, BackendError> {
        Err(BackendError::Failed("the engine is not connected".into()))
    }

    async fn score(
        &self,
        _prompt: Prompt,
        _continuations: Vec<Vec<TokenId>>,
    ) -> Result<(Vec<Vec<f32>>, Cost), BackendError> {
        Err(BackendError::Failed("the engine is not connected".into()))
    }

    async fn publish(&self, _prompt: Prompt) -> Result<Cost, BackendError> {
        Err(BackendError::Failed("the engine is not connected".into()))
    }
}
