//! What carries generations out.
//!
//! A [`Backend`] is the expensive edge of the interpreter: it turns text to tokens and back, renders a chat, and
//! generates, scores and publishes over token ids. [`EngineBackend`] asks a local engine; [`ScriptBackend`] plays
//! given texts, for deterministic suites.

mod engine;
mod script;
mod script_tokens;

use async_trait::async_trait;
use serde_json::Value;

pub use engine::EngineBackend;
pub use lmrun_engine::{FinishReason, Finished, Generate, Sampling, Token, TokenId};
pub use script::{Call, ScriptBackend};

/// What a backend can do; a program that needs more is refused before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Generations can be held to a constraint.
    pub constraints: bool,
    /// Log-probabilities of given tokens are exact: `select`, `logprob`.
    pub logprobs: bool,
    /// Whether the model has a chat template; without one only `template="none"` runs.
    pub chat: bool,
    /// The most tokens a context can hold.
    pub context_length: usize,
}

/// The backend's tokens: text and ids, exactly.
pub trait Tokens: Send + Sync {
    /// The tokens of text in which nothing is special.
    fn encode(&self, text: &str) -> Vec<TokenId>;
    /// The tokens of a chat template's own text, in which special tokens are written by name.
    fn encode_template(&self, text: &str) -> Vec<TokenId>;
    /// The text of tokens, special ones by name.
    fn decode(&self, tokens: &[TokenId]) -> String;
    /// The bytes of an ordinary token; none for a special one.
    fn bytes(&self, token: TokenId) -> Option<&[u8]>;
    /// Whether the bytes of some ordinary token begin with these and go on.
    fn extends(&self, bytes: &[u8]) -> bool;
    /// Whether generation ends at this token.
    fn is_end(&self, token: TokenId) -> bool;
    /// The token before every plain text, if the model wants one.
    fn begin(&self) -> Option<TokenId>;
}

/// A generation asked of a backend.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The whole context. Never empty.
    pub tokens: Vec<TokenId>,
    /// Requests share cached prefixes only within a namespace.
    pub namespace: u64,
    /// The generation's name in the program.
    pub name: Option<String>,
    /// The branch that asks.
    pub branch: String,
    /// Text taken back from the context by healing: a generation's constraint makes its output begin with it, and
    /// scored continuations begin with it.
    pub healed: String,
}

/// What a request without output cost, in tokens.
pub use lmrun_engine::Usage as Cost;

/// Why a backend could not do it. Messages are for the program's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The request is too large: its context, or the memory it needs.
    #[error("{0}")]
    Refused(String),
    /// A constrained output cannot end within `max_tokens`.
    #[error("the shortest valid output takes {given} tokens, {limit} are left")]
    TooFewTokens {
        /// Tokens the shortest output takes.
        given: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// The backend itself failed.
    #[error("{0}")]
    Failed(String),
}

/// Carries generations out. Dropping a returned future cancels what it asked for.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Its tokens.
    fn tokens(&self) -> &dyn Tokens;

    /// The prompt of a chat: `messages` is an array of `{role, content}`.
    ///
    /// # Errors
    /// The template's own words, or why it could not be rendered.
    fn render_chat(&self, messages: &Value, add_generation_prompt: bool) -> Result<String, String>;

    /// Generates after the prompt; each token goes to `on_token` as soon as it is sampled.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn generate(
        &self,
        prompt: Prompt,
        how: Generate,
        on_token: &mut (dyn for<'t> FnMut(&'t Token) + Send),
    ) -> Result<Generated, BackendError>;

    /// The log-probability of each token of each continuation after the prompt: `[n_continuations][n_tokens]`.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn score(
        &self,
        prompt: Prompt,
        continuations: Vec<Vec<TokenId>>,
    ) -> Result<(Vec<Vec<f32>>, Cost), BackendError>;

    /// Computes the prompt once, for requests to come that begin with it.
    ///
    /// # Errors
    /// [`BackendError`].
    async fn publish(&self, prompt: Prompt) -> Result<Cost, BackendError>;
}

/// What a generation came to: the engine's own account of it. Its `text` is what was not yet told by tokens.
pub type Generated = Finished;
