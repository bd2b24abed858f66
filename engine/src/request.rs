//! What is asked of the engine and what it answers.
//!
//! A request is token ids in and events out; text appears only where it must (stop strings, streamed text). The words
//! are those of the field: prefill, decode, finish reason, log-probability (natural logarithm, of the model's own
//! distribution: before the mask, the temperature and the penalties).

use std::ops::ControlFlow;

use lmrun_grammar::Constraint;

use crate::TokenId;

/// One request: a prompt and what to do with it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The whole context as token ids. Never empty.
    pub prompt: Vec<TokenId>,
    /// Requests share cached prefixes only within a namespace (a tenant's salt); 0 is the default one.
    pub namespace: u64,
    /// What is wanted.
    pub work: Work,
}

/// The kinds of work.
#[derive(Debug, Clone)]
pub enum Work {
    /// Sample tokens after the prompt.
    Generate(Box<Generate>),
    /// Log-probability of each token of each continuation after the prompt, which is computed once for all.
    Score(Vec<Vec<TokenId>>),
    /// Compute the prompt's KV and leave it in the cache: a prefix published before its branches.
    Publish,
}

/// How to generate.
#[derive(Debug, Clone, Default)]
pub struct Generate {
    /// The most tokens generated; none runs to the end of the turn or of the context.
    pub max_tokens: Option<usize>,
    /// End tokens are not sampled before this many tokens.
    pub min_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Generation ends before any of these; the text of the stop is not part of the output.
    pub stop: Vec<String>,
    /// What the output must be. A constrained output is never cut: near `max_tokens` it is steered to its shortest
    /// valid end, and a budget that cannot hold even that is refused with [`RequestError::BudgetTooSmall`].
    pub constraint: Option<Constraint>,
    /// How many alternatives to report with each token's log-probability, at most 20.
    pub n_top_logprobs: usize,
    /// Whether nobody asks for log-probabilities. [`Token::logprob`] is then not a number, `n_top_logprobs` must be 0, and
    /// where the constraint allows few tokens only their logits are computed; the output is the same.
    pub without_logprobs: bool,
}

/// How tokens are chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this share as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of tokens already present; 1 is none.
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of tokens already generated.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens already generated, once for each time.
    pub frequency_penalty: f32,
    /// Added to these tokens' logits.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The seed. A token depends on the seed and its position alone, never on the batch.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// Where a request's events go. Called on the engine thread, so it must not block; `Break` says that nobody listens
/// any more and cancels the request.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// What happens to a request, in order: `Started`, `Token`s, then exactly one of `Finished`, `Scored`, `Published`,
/// `Failed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It runs.
    Started {
        /// Prompt tokens whose KV came from the cache.
        n_cached: usize,
    },
    /// A token of the output.
    Token(Token),
    /// The generation ended.
    Finished(Finished),
    /// Log-probabilities, in the order of the continuations and of their tokens.
    Scored {
        /// `[n_continuations][n_tokens]`
        logprobs: Vec<Vec<f32>>,
        /// What it cost.
        usage: Usage,
    },
    /// The prompt is in the cache.
    Published {
        /// What it cost.
        usage: Usage,
    },
    /// It could not be done.
    Failed(RequestError),
}

/// One token of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The text that became complete with it: whole UTF-8 characters, held back while a stop string may follow.
    pub text: String,
    /// Its log-probability; not a number under [`Generate::without_logprobs`].
    pub logprob: f32,
    /// The most probable alternatives, best first, as asked for.
    pub top: Vec<(TokenId, f32)>,
    /// Whether it was computed together with the token before it, for the constraint had forced it or its bytes.
    pub forced: bool,
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// Text held back until now.
    pub text: String,
    /// Every token kept: the prompt is followed by exactly these (no end token; tokens of a stop string that hold
    /// kept text stay, those wholly within it are dropped).
    pub tokens: Vec<TokenId>,
    /// What it cost.
    pub usage: Usage,
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, or a constraint that is complete and can take nothing more.
    End,
    /// This stop string.
    Stop(String),
    /// `max_tokens` or the end of the context.
    Length,
    /// Cancelled by [`crate::Handle::cancel`].
    Cancelled,
}

/// What a request cost, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub n_prompt: usize,
    /// Of those, read from the cache.
    pub n_cached: usize,
    /// Output tokens.
    pub n_generated: usize,
    /// Of those, forced by the constraint ([`Token::forced`]).
    pub n_forced: usize,
}

/// Why a request failed. Messages are for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The prompt, with the output asked for, does not fit.
    #[error("the context would hold {given} tokens, the model's limit is {limit}")]
    ContextLength {
        /// Tokens asked for.
        given: usize,
        /// The most there can be.
        limit: usize,
    },
    /// The request alone needs more KV pages than the pool has.
    #[error("the request needs {given} tokens of KV memory, the pool holds {limit}")]
    PoolTooSmall {
        /// Tokens needed.
        given: usize,
        /// Tokens the pool holds.
        limit: usize,
    },
    /// Too many requests wait.
    #[error("{given} requests wait, the limit is {limit}: try again later")]
    QueueFull {
        /// How many wait.
        given: usize,
        /// The most that may.
        limit: usize,
    },
    /// A constrained output cannot end within its budget.
    #[error("the shortest valid output takes {given} tokens, max_tokens allows {limit}")]
    BudgetTooSmall {
        /// Tokens the shortest output takes.
        given: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// Something in the request is not acceptable.
    #[error("{0}")]
    Invalid(String),
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// A step failed; the request's batch is lost, the engine goes on.
    #[error("the engine failed while it computed this request")]
    Internal,
}
