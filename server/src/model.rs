//! What the server asks of the engine, as a trait: the engine's handle, or a script in the tests.

use std::sync::Arc;

use lmrun_engine::{
    Handle, ModelError, Request, RequestError, RequestId, Sink, Specials, Stats, TokenId,
};
use lmrun_grammar::Vocabulary;
use serde_json::Value;

/// A loaded model that takes requests.
pub(crate) trait Model: Send + Sync + 'static {
    fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, RequestError>;
    fn cancel(&self, id: RequestId);
    fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId>;
    fn decode(&self, tokens: &[TokenId]) -> String;
    /// The exact bytes of an ordinary token.
    fn token_bytes(&self, token: TokenId) -> Option<&[u8]>;
    fn is_special(&self, token: TokenId) -> bool;
    fn n_vocab(&self) -> usize;
    fn vocabulary(&self) -> &Arc<Vocabulary>;
    /// Tokens that a sequence can hold: what the model was trained for and the KV pool has room for.
    fn context_length(&self) -> usize;
    /// The chat template's text, if the model has one.
    fn template(&self) -> Option<&str>;
    /// The template's prompt for these messages, open for the assistant's turn.
    fn render(&self, messages: &Value, tools: Option<&Value>) -> Result<String, ModelError>;
    fn stats(&self) -> Stats;
}

impl Model for Handle {
    fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, RequestError> {
        Handle::submit(self, request, sink)
    }

    fn cancel(&self, id: RequestId) {
        Handle::cancel(self, id);
    }

    fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId> {
        self.tokenizer().encode(text, specials)
    }

    fn decode(&self, tokens: &[TokenId]) -> String {
        self.tokenizer().decode(tokens)
    }

    fn token_bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.tokenizer().token_bytes(token)
    }

    fn is_special(&self, token: TokenId) -> bool {
        self.tokenizer().is_special(token)
    }

    fn n_vocab(&self) -> usize {
        self.tokenizer().n_vocab()
    }

    fn vocabulary(&self) -> &Arc<Vocabulary> {
        Handle::vocabulary(self)
    }

    fn context_length(&self) -> usize {
        self.info().context_length.min(self.info().kv_tokens)
    }

    fn template(&self) -> Option<&str> {
        self.chat_template().map(|template| template.source())
    }

    fn render(&self, messages: &Value, tools: Option<&Value>) -> Result<String, ModelError> {
        match self.chat_template() {
            Some(template) => template.render(messages, tools, true),
            None => Err(ModelError::Template("the model has none".into())),
        }
    }

    fn stats(&self) -> Stats {
        Handle::stats(self)
    }
}

/// The texts of the special tokens, longest first, so that the first that matches somewhere is the whole token.
pub(crate) fn special_texts(model: &dyn Model) -> Vec<String> {
    let n_vocab = TokenId::try_from(model.n_vocab()).unwrap_or(TokenId::MAX);
    let mut texts: Vec<String> = (0..n_vocab)
        .filter(|&token| model.is_special(token))
        .map(|token| model.decode(&[token]))
        .filter(|text| !text.is_empty())
        .collect();
    texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    texts
}
