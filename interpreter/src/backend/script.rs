//! A backend that plays given texts: programs run without a model, the same every time.
//!
//! Its tokens are bytes, a few special tokens, and the words it is told of; its chat template is ChatML. A constrained
//! generation is checked against its constraint, so a script cannot say what a model could not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lmrun_grammar::{Constraint, GrammarError, Matcher, Vocabulary};
use serde_json::Value;

use super::script_tokens::ScriptTokens;
use super::{
    Backend, BackendError, Capabilities, Cost, FinishReason, Generate, Generated, Prompt, Sampling,
    Token, TokenId, Tokens,
};

/// The log-probability of every token of a script, but for options told of with [`ScriptBackend::weigh`].
const LOGPROB: f32 = -0.5;

/// A backend that plays given texts by generation name.
pub struct ScriptBackend {
    tokens: ScriptTokens,
    vocabulary: Arc<Vocabulary>,
    capabilities: Capabilities,
    lines: HashMap<String, Line>,
    weights: HashMap<String, f32>,
    delay: Duration,
    state: Mutex<State>,
    n_open: AtomicUsize,
}

/// What is played for a name.
enum Line {
    /// One text after another; the last again and again.
    Texts(Vec<String>),
    /// A text made from the prompt's.
    Answer(Box<dyn Fn(&str) -> String + Send + Sync>),
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    n_played: HashMap<String, usize>,
    n_cancelled: usize,
    most_open: usize,
}

/// A call that a [`ScriptBackend`] served.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A generation.
    Generate {
        /// The generation's name.
        name: Option<String>,
        /// The branch that asked.
        branch: String,
        /// The whole prompt, special tokens by name.
        prompt: String,
        /// The prompt's tokens.
        tokens: Vec<TokenId>,
        /// How tokens were to be sampled, the seed among it.
        sampling: Sampling,
        /// The most tokens allowed.
        max_tokens: Option<usize>,
        /// What the output had to begin with.
        healed: String,
    },
    /// A scoring.
    Score {
        /// The branch that asked.
        branch: String,
        /// The whole prompt.
        prompt: String,
        /// The continuations' texts, special tokens by name.
        continuations: Vec<String>,
    },
    /// A prefix published.
    Publish {
        /// The branch that asked.
        branch: String,
        /// The whole prefix.
        prompt: String,
    },
}

impl Default for ScriptBackend {
    fn default() -> Self {
        let tokens = ScriptTokens::default();
        Self {
            vocabulary: Arc::new(tokens.vocabulary()),
            tokens,
            capabilities: Capabilities {
                constraints: true,
                logprobs: true,
                chat: true,
                context_length: 1 << 20,
            },
            lines: HashMap::new(),
            weights: HashMap::new(),
            delay: Duration::ZERO,
            state: Mutex::default(),
            n_open: AtomicUsize::new(0),
        }
    }
}

impl ScriptBackend {
    /// A script without lines: every generation is an error.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plays `texts` for generations called `name`, one after another and the last again and again. `branch/name`
    /// speaks for one branch alone and goes before the bare name; `_` speaks for generations without a name.
    #[must_use]
    pub fn say<S: Into<String>>(mut self, name: &str, texts: impl IntoIterator<Item = S>) -> Self {
        let texts = texts.into_iter().map(Into::into).collect();
        self.lines.insert(name.to_owned(), Line::Texts(texts));
        self
    }

    /// Plays for `name` what `answer` makes of the prompt's text.
    #[must_use]
    pub fn answer(
        mut self,
        name: &str,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        self.lines
            .insert(name.to_owned(), Line::Answer(Box::new(answer)));
        self
    }

    /// Plays each value of a map for the generation of its name: strings as text, lists one element after another,
    /// everything else as compact JSON.
    #[must_use]
    pub fn mock(mut self, values: &serde_json::Map<String, Value>) -> Self {
        for (name, value) in values {
            self = self.say(name, [crate::value::text(value)]);
        }
        self
    }

    /// Sets the log-probability of `option` as a whole, end token included, where options are scored.
    #[must_use]
    pub fn weigh(mut self, option: &str, logprob: f32) -> Self {
        self.weights.insert(option.to_owned(), logprob);
        self
    }

    /// Adds words that are single tokens.
    #[must_use]
    pub fn with_words(mut self, words: &[&str]) -> Self {
        self.tokens = ScriptTokens::with_words(words);
        self.vocabulary = Arc::new(self.tokens.vocabulary());
        self
    }

    /// Lets every call take this long.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Lets the backend be less capable.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The calls served so far, in the order they came.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many calls were dropped before they were answered.
    #[must_use]
    pub fn n_cancelled(&self) -> usize {
        self.state().n_cancelled
    }

    /// The most calls that were open at the same time.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.state().most_open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call, and waits as long as calls take.
    async fn open(&self, call: Call) {
        let n_open = self.n_open.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut state = self.state();
            state.calls.push(call);
            state.most_open = state.most_open.max(n_open);
        }
        let mut open = Open {
            backend: self,
            answered: false,
        };
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        open.answered = true;
    }

    /// The text for a generation.
    fn line(&self, prompt: &Prompt) -> Result<String, BackendError> {
        let name = prompt.name.as_deref().unwrap_or("_");
        let own = format!("{}/{name}", prompt.branch);
        let key = if self.lines.contains_key(&own) {
            own
        } else {
            name.to_owned()
        };
        match self.lines.get(&key) {
            Some(Line::Answer(answer)) => Ok(answer(&self.tokens.decode(&prompt.tokens))),
            Some(Line::Texts(texts)) => {
                let mut state = self.state();
                let n_played = state.n_played.entry(key).or_default();
                *n_played += 1;
                let text = texts.get(*n_played - 1).or(texts.last());
                text.cloned()
                    .ok_or_else(|| BackendError::Failed("the script is empty".into()))
            }
            None => Err(BackendError::Failed(format!(
                "the script has no text for `{name}`"
            ))),
        }
    }

    /// Checks an output against its constraint.
    fn obey(&self, constraint: &Constraint, output: &[TokenId]) -> Result<(), BackendError> {
        let breaks = |error: &GrammarError| {
            let text = self.tokens.decode(output);
            BackendError::Failed(format!(
                "the script's {text:?} breaks its constraint: {error}"
            ))
        };
        let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&self.vocabulary))
            .map_err(|error| breaks(&error))?;
        output
            .iter()
            .try_for_each(|&token| matcher.accept(token).map_err(|error| breaks(&error)))?;
        if matcher.is_complete() {
            return Ok(());
        }
        let text = self.tokens.decode(output);
        Err(BackendError::Failed(format!(
            "the script's {text:?} ends before its constraint does"
        )))
    }

    fn score_of(&self, prompt: &Prompt, continuation: &[TokenId]) -> Vec<f32> {
        let text: Vec<TokenId> = continuation
            .iter()
            .copied()
            .filter(|&token| !self.tokens.is_end(token))
            .collect();
        let text = self.tokens.decode(&text);
        let option = text.strip_prefix(prompt.healed.as_str()).unwrap_or(&text);
        let n_tokens = continuation.len();
        let whole = self.weights.get(option).copied();
        vec![whole.map_or(LOGPROB, |whole| whole / n_tokens as f32); n_tokens]
    }
}

/// A call being served.
struct Open<'b> {
    backend: &'b ScriptBackend,
    answered: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.backend.n_open.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.backend.state().n_cancelled += 1;
        }
    }
}

#[async_trait]
impl Backend for ScriptBackend {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn tokens(&self) -> &dyn Tokens {
        &self.tokens
    }

    fn render_chat(&self, messages: &Value, add_generation_prompt: bool) -> Result<String, String> {
        let mut text = String::new();
        for message in messages.as_array().into_iter().flatten() {
            let part = |key: &str| message[key].as_str().unwrap_or_default();
            text += &format!(
                "<|im_start|>{}\n{}<|im_end|>\n",
                part("role"),
                part("content")
            );
        }
        if add_generation_prompt {
            text += "<|im_start|>assistant\n";
        }
        Ok(text)
    }

    async fn generate(
        &self,
        prompt: Prompt,
        how: Generate,
        on_token: &mut (dyn for<'t> FnMut(&'t Token) + Send),
    ) -> Result<Generated, BackendError> {
        self.open(Call::Generate {
            name: prompt.name.clone(),
            branch: prompt.branch.clone(),
            prompt: self.tokens.decode(&prompt.tokens),
            tokens: prompt.tokens.clone(),
            sampling: how.sampling.clone(),
            max_tokens: how.max_tokens,
            healed: prompt.healed.clone(),
        })
        .await;
        let mut text = format!("{}{}", prompt.healed, self.line(&prompt)?);
        let mut reason = FinishReason::End;
        let stops = how
            .stop
            .iter()
            .filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = stops.min_by_key(|&(at, _)| at) {
            text.truncate(at);
            reason = FinishReason::Stop(stop.clone());
        }
        let mut output = self.tokens.encode(&text);
        let limit = how.max_tokens.unwrap_or(usize::MAX);
        if output.len() > limit {
            if how.constraint.is_some() && prompt.healed.is_empty() {
                return Err(BackendError::TooFewTokens {
                    given: output.len(),
                    limit,
                });
            }
            output.truncate(limit);
            reason = FinishReason::Length;
        }
        if let Some(constraint) = &how.constraint {
            self.obey(constraint, &output)?;
        }
        for (idx, &id) in output.iter().enumerate() {
            let before = self.tokens.decode_whole(&output[..idx]).len();
            let text = self.tokens.decode_whole(&output[..=idx])[before..].to_owned();
            on_token(&Token {
                id,
                text,
                logprob: LOGPROB,
                top: Vec::new(),
                forced: false,
            });
            // A model's tokens come one by one; siblings run in between.
            tokio::task::yield_now().await;
        }
        let usage = Cost {
            n_prompt: prompt.tokens.len(),
            n_generated: output.len(),
            ..Cost::default()
        };
        Ok(Generated {
            reason,
            text: String::new(),
            tokens: output,
            usage,
        })
    }

    async fn score(
        &self,
        prompt: Prompt,
        continuations: Vec<Vec<TokenId>>,
    ) -> Result<(Vec<Vec<f32>>, Cost), BackendError> {
        self.open(Call::Score {
            branch: prompt.branch.clone(),
            prompt: self.tokens.decode(&prompt.tokens),
            continuations: continuations
                .iter()
                .map(|tokens| self.tokens.decode(tokens))
                .collect(),
        })
        .await;
        let scores = continuations
            .iter()
            .map(|tokens| self.score_of(&prompt, tokens))
            .collect();
        Ok((
            scores,
            Cost {
                n_prompt: prompt.tokens.len(),
                ..Cost::default()
            },
        ))
    }

    async fn publish(&self, prompt: Prompt) -> Result<Cost, BackendError> {
        let text = self.tokens.decode(&prompt.tokens);
        self.open(Call::Publish {
            branch: prompt.branch.clone(),
            prompt: text,
        })
        .await;
        Ok(Cost {
            n_prompt: prompt.tokens.len(),
            ..Cost::default()
        })
    }
}
