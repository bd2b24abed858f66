//! A local engine as a backend: requests go through its handle, events come back through a channel.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lmrun_engine::{
    Event, Generate, Handle, Request, RequestError, RequestId, Specials, Token, TokenId, Tokenizer,
    Work,
};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Backend, BackendError, Capabilities, Cost, Generated, Prompt, Tokens};

/// How long a run waits for room in the engine's queue before it gives up, in steps.
const QUEUE_WAIT: Duration = Duration::from_millis(20);
/// How many such steps: half a minute.
const MAX_QUEUE_WAITS: usize = 1_500;

/// A local engine. Cheap to build beside its handle; share it in an `Arc`.
pub struct EngineBackend {
    handle: Handle,
    tokens: EngineTokens,
}

impl EngineBackend {
    /// A backend over a running engine.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        let tokens = EngineTokens::new(Arc::clone(handle.tokenizer()));
        Self { handle, tokens }
    }

    /// Queues a request, waiting for room in the queue.
    async fn submit(&self, prompt: Prompt, work: Work) -> Result<Running, BackendError> {
        let request = Request {
            prompt: prompt.tokens,
            namespace: prompt.namespace,
            work,
        };
        for _ in 0..MAX_QUEUE_WAITS {
            let (sender, events) = unbounded_channel();
            let sink = Box::new(move |event| match sender.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            match self.handle.submit(request.clone(), sink) {
                Ok(id) => {
                    return Ok(Running {
                        handle: self.handle.clone(),
                        id,
                        events,
                    });
                }
                Err(RequestError::QueueFull { .. }) => tokio::time::sleep(QUEUE_WAIT).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(BackendError::Failed(
            "the engine's queue stayed full".into(),
        ))
    }
}

/// A request in the engine. Dropping it cancels the request; a finished one is not minded.
struct Running {
    handle: Handle,
    id: RequestId,
    events: UnboundedReceiver<Event>,
}

impl Running {
    /// The next event that is not the start; failures are errors.
    async fn next(&mut self) -> Result<Event, BackendError> {
        loop {
            match self.events.recv().await {
                Some(Event::Started { .. }) => {}
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(event) => return Ok(event),
                None => return Err(BackendError::Failed("the engine is gone".into())),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.cancel(self.id);
    }
}

impl From<RequestError> for BackendError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::BudgetTooSmall { given, limit } => Self::TooFewTokens { given, limit },
            RequestError::ContextLength { .. } | RequestError::PoolTooSmall { .. } => {
                Self::Refused(error.to_string())
            }
            RequestError::Invalid(_)
            | RequestError::QueueFull { .. }
            | RequestError::ShuttingDown
            | RequestError::Internal => Self::Failed(error.to_string()),
        }
    }
}

fn out_of_order() -> BackendError {
    BackendError::Failed("the engine answered something else than it was asked".into())
}

#[async_trait]
impl Backend for EngineBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            constraints: true,
            logprobs: true,
            chat: self.handle.chat_template().is_some(),
            context_length: self.handle.info().context_length,
        }
    }

    fn tokens(&self) -> &dyn Tokens {
        &self.tokens
    }

    fn render_chat(&self, messages: &Value, add_generation_prompt: bool) -> Result<String, String> {
        let template = self
            .handle
            .chat_template()
            .ok_or("the model has no chat template")?;
        template
            .render(messages, None, add_generation_prompt)
            .map_err(|error| error.to_string())
    }

    async fn generate(
        &self,
        prompt: Prompt,
        how: Generate,
        on_token: &mut (dyn for<'t> FnMut(&'t Token) + Send),
    ) -> Result<Generated, BackendError> {
        let mut running = self.submit(prompt, Work::Generate(Box::new(how))).await?;
        loop {
            match running.next().await? {
                Event::Token(token) => on_token(&token),
                Event::Finished(finished) => return Ok(finished),
                _ => return Err(out_of_order()),
            }
        }
    }

    async fn score(
        &self,
        prompt: Prompt,
        continuations: Vec<Vec<TokenId>>,
    ) -> Result<(Vec<Vec<f32>>, Cost), BackendError> {
        let mut running = self.submit(prompt, Work::Score(continuations)).await?;
        match running.next().await? {
            Event::Scored { logprobs, usage } => Ok((logprobs, usage)),
            _ => Err(out_of_order()),
        }
    }

    async fn publish(&self, prompt: Prompt) -> Result<Cost, BackendError> {
        let mut running = self.submit(prompt, Work::Publish).await?;
        match running.next().await? {
            Event::Published { usage } => Ok(usage),
            _ => Err(out_of_order()),
        }
    }
}

/// The engine's tokenizer, and its ordinary tokens sorted by their bytes.
struct EngineTokens {
    tokenizer: Arc<Tokenizer>,
    sorted: Vec<TokenId>,
}

impl EngineTokens {
    fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let n_vocab = TokenId::try_from(tokenizer.n_vocab()).unwrap_or(TokenId::MAX);
        let mut sorted: Vec<TokenId> = (0..n_vocab)
            .filter(|&token| tokenizer.token_bytes(token).is_some())
            .collect();
        sorted.sort_unstable_by(|&a, &b| tokenizer.token_bytes(a).cmp(&tokenizer.token_bytes(b)));
        Self { tokenizer, sorted }
    }
}

impl Tokens for EngineTokens {
    fn encode(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, Specials::AsText)
    }

    fn encode_template(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode(text, Specials::Parse)
    }

    fn decode(&self, tokens: &[TokenId]) -> String {
        self.tokenizer.decode(tokens)
    }

    fn bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.tokenizer.token_bytes(token)
    }

    fn extends(&self, bytes: &[u8]) -> bool {
        let of = |token: &TokenId| self.tokenizer.token_bytes(*token).unwrap_or_default();
        let next = self.sorted.partition_point(|token| of(token) <= bytes);
        self.sorted
            .get(next)
            .is_some_and(|token| of(token).starts_with(bytes))
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.tokenizer.end_tokens().contains(&token)
    }

    fn begin(&self) -> Option<TokenId> {
        self.tokenizer.bos()
    }
}
