//! One choice: the assistant's turn as a sequence of engine requests over a growing context.
//!
//! Free text is one request. A call is forced text (its opening and name) around generated text (its arguments, under
//! the tool's own schema), each request continuing the tokens of the one before, whose KV the engine still has. A free
//! turn that writes a call's opening stops there and goes on as a call, so a call that was begun is always valid.

use std::ops::ControlFlow;
use std::sync::Arc;

use lmrun_engine::{
    Event, FinishReason, Finished, Generate, Request, RequestError, RequestId, Specials, Token,
    TokenId, Work,
};
use lmrun_grammar::Constraint;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::logprobs::{Piece, Pieces};
use super::plan::{Calls, Mode, Plan};
use super::tools::{BETWEEN, CLOSING, OPENING};
use crate::limits::grammar_limits;
use crate::model::Model;
use crate::random;

/// What happens in a turn, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delta {
    /// The engine has begun.
    Started,
    /// More of the answer's text.
    Text(Piece),
    /// A call begins.
    Call {
        idx: usize,
        id: String,
        name: String,
    },
    /// More of the text of that call's arguments.
    Arguments { idx: usize, text: String },
    /// The turn ended; nothing follows.
    Ended(Result<Outcome, RequestError>),
}

/// How a turn ended and what it cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) finish: Finish,
    pub(crate) n_prompt: usize,
    pub(crate) n_cached: usize,
    pub(crate) n_completion: usize,
}

/// The reason as clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
}

impl Finish {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

impl From<&FinishReason> for Finish {
    fn from(reason: &FinishReason) -> Self {
        match reason {
            FinishReason::End | FinishReason::Stop(_) => Self::Stop,
            FinishReason::Length | FinishReason::Cancelled => Self::Length,
        }
    }
}

/// A turn that runs.
pub(crate) struct Turn {
    model: Arc<dyn Model>,
    plan: Arc<Plan>,
    deltas: UnboundedSender<Delta>,
    /// Added to the plan's seed: choices of one request differ by it.
    choice_idx: usize,
    /// The prompt and everything after it.
    context: Vec<TokenId>,
    n_cached: Option<usize>,
}

/// How a request to the engine ended.
enum Answer {
    Finished(Finished),
    /// The watcher broke it off.
    Broken,
}

impl Turn {
    pub(crate) fn new(
        model: Arc<dyn Model>,
        plan: Arc<Plan>,
        choice_idx: usize,
        deltas: UnboundedSender<Delta>,
    ) -> Self {
        let context = plan.prompt.clone();
        Self {
            model,
            plan,
            deltas,
            choice_idx,
            context,
            n_cached: None,
        }
    }

    /// Runs the turn to its end.
    pub(crate) async fn run(mut self) -> Delta {
        let plan = self.plan.clone();
        let finish = match &plan.mode {
            Mode::Free => self.text(None).await,
            Mode::Formatted(format) => self.text(Some(format)).await,
            Mode::Calls(calls) => self.calls(calls).await,
            Mode::FreeOrCalls(calls) => self.text_then_calls(calls).await,
            Mode::FormattedOrCalls {
                format,
                beginning,
                calls,
            } => match self.begins_call(beginning).await {
                Ok(true) => self.calls(calls).await,
                Ok(false) => self.text(Some(format)).await,
                Err(error) => Err(error),
            },
        };
        Delta::Ended(finish.map(|finish| Outcome {
            finish,
            n_prompt: plan.prompt.len(),
            n_cached: self.n_cached.unwrap_or(0),
            n_completion: self.n_completion(),
        }))
    }

    fn n_completion(&self) -> usize {
        self.context.len() - self.plan.prompt.len()
    }

    /// The answer's text.
    async fn text(&mut self, format: Option<&Constraint>) -> Result<Finish, RequestError> {
        let stop = if format.is_some() {
            Vec::new()
        } else {
            self.plan.stop.clone()
        };
        let (finished, _) = self.streamed_text(format, stop).await?;
        self.context.extend(&finished.tokens);
        Ok(Finish::from(&finished.reason))
    }

    /// Text, and calls if the model opens one.
    async fn text_then_calls(&mut self, calls: &Calls) -> Result<Finish, RequestError> {
        let mut stop = self.plan.stop.clone();
        stop.push(OPENING.to_owned());
        let (mut finished, text) = self.streamed_text(None, stop).await?;
        let opens = finished.reason == FinishReason::Stop(OPENING.to_owned());
        if opens && self.model.decode(&finished.tokens) != text {
            // The last token holds the text's end and the opening's beginning: the text is spelled without the latter.
            finished.tokens = self.model.encode(&text, Specials::AsText);
        }
        self.context.extend(&finished.tokens);
        if opens {
            self.calls(calls).await
        } else {
            Ok(Finish::from(&finished.reason))
        }
    }

    /// One request whose text is sent on as the answer's, and that text.
    async fn streamed_text(
        &mut self,
        format: Option<&Constraint>,
        stop: Vec<String>,
    ) -> Result<(Finished, String), RequestError> {
        let generate = Generate {
            stop,
            constraint: format.cloned(),
            n_top_logprobs: self.plan.n_top_logprobs.unwrap_or(0),
            ..self.generate()
        };
        let (model, deltas) = (self.model.clone(), self.deltas.clone());
        let mut pieces = Pieces::new(self.plan.n_top_logprobs.is_some());
        let send = move |piece: Option<Piece>| {
            piece.is_none_or(|piece| deltas.send(Delta::Text(piece)).is_ok())
        };
        let mut text = String::new();
        let answer = self
            .ask(generate, |event| {
                text.push_str(event.text());
                let is_heard = match event {
                    Watched::Token(token) => send(pieces.token(model.as_ref(), token)),
                    Watched::Finished(finished) => send(pieces.finish(finished)),
                };
                if is_heard {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
            .await?;
        match answer {
            Answer::Finished(finished) => Ok((finished, text)),
            Answer::Broken => Err(RequestError::ShuttingDown),
        }
    }

    /// Whether the model would rather begin a call than an answer. Nothing of what it says is kept.
    async fn begins_call(&mut self, beginning: &Constraint) -> Result<bool, RequestError> {
        let generate = Generate {
            constraint: Some(beginning.clone()),
            ..self.generate()
        };
        let mut first = String::new();
        self.ask(generate, |event| {
            first.push_str(event.text());
            if first.is_empty() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await?;
        Ok(OPENING.starts_with(&first) || first.starts_with(OPENING))
    }

    /// Calls, the first of which is not yet opened.
    async fn calls(&mut self, calls: &Calls) -> Result<Finish, RequestError> {
        self.force(&format!("{OPENING}\n"));
        for idx in 0..calls.max {
            if idx > 0 && !self.continues().await? {
                break;
            }
            match self.call(idx, calls).await {
                Ok(()) => {}
                // Of the first call alone that is the request's fault; later ones only found the budget used up.
                Err(RequestError::BudgetTooSmall { .. }) if idx > 0 => return Ok(Finish::Length),
                Err(error) => return Err(error),
            }
        }
        Ok(Finish::ToolCalls)
    }

    /// Whether the model opens another call rather than end its turn.
    async fn continues(&mut self) -> Result<bool, RequestError> {
        let pattern = format!("({BETWEEN})?");
        let constraint =
            Constraint::regex(&pattern, &grammar_limits()).map_err(|_| RequestError::Internal)?;
        let generate = Generate {
            constraint: Some(constraint),
            ..self.generate()
        };
        let answer = match self.ask(generate, |_| ControlFlow::Continue(())).await {
            Err(RequestError::BudgetTooSmall { .. } | RequestError::ContextLength { .. }) => {
                return Ok(false);
            }
            answer => answer?,
        };
        let Answer::Finished(finished) = answer else {
            return Ok(false);
        };
        self.context.extend(&finished.tokens);
        Ok(!finished.tokens.is_empty())
    }

    /// One call, from behind its opening to behind its closing.
    async fn call(&mut self, idx: usize, calls: &Calls) -> Result<(), RequestError> {
        let tool = match calls.tools.as_slice() {
            [only] => {
                self.force(&format!("{{\"name\":{}", after_name(&only.name)));
                only
            }
            tools => {
                self.force("{\"name\":");
                &tools[self.chosen(calls).await?]
            }
        };
        let begins = Delta::Call {
            idx,
            id: random::name("call_"),
            name: tool.name.clone(),
        };
        let generate = Generate {
            constraint: Some(tool.arguments.clone()),
            ..self.generate()
        };
        let deltas = self.deltas.clone();
        let mut begins = Some(begins);
        let mut is_first = true;
        let answer = self
            .ask(generate, |event| {
                if let Some(begins) = begins.take() {
                    let _ = deltas.send(begins);
                }
                // The constraint puts a space before the arguments: it belongs to the call's text, not to them.
                let text = event.text();
                let text = if is_first {
                    text.trim_start_matches(' ')
                } else {
                    text
                };
                if !text.is_empty() {
                    is_first = false;
                    let _ = deltas.send(Delta::Arguments {
                        idx,
                        text: text.to_owned(),
                    });
                }
                ControlFlow::Continue(())
            })
            .await?;
        let Answer::Finished(finished) = answer else {
            return Err(RequestError::Internal);
        };
        self.context.extend(&finished.tokens);
        self.force(CLOSING);
        Ok(())
    }

    /// Lets the model name one of several tools.
    async fn chosen(&mut self, calls: &Calls) -> Result<usize, RequestError> {
        let options: Vec<String> = calls
            .tools
            .iter()
            .map(|tool| after_name(&tool.name))
            .collect();
        let constraint =
            Constraint::choices(&options, &grammar_limits()).map_err(|_| RequestError::Internal)?;
        let generate = Generate {
            constraint: Some(constraint),
            ..self.generate()
        };
        let mut text = String::new();
        let answer = self
            .ask(generate, |event| {
                text.push_str(event.text());
                ControlFlow::Continue(())
            })
            .await?;
        let Answer::Finished(finished) = answer else {
            return Err(RequestError::Internal);
        };
        self.context.extend(&finished.tokens);
        options
            .iter()
            .position(|option| *option == text)
            .ok_or(RequestError::Internal)
    }

    /// Text that is part of the turn whatever the model says.
    fn force(&mut self, text: &str) {
        let tokens = self.model.encode(text, Specials::Parse);
        self.context.extend(tokens);
    }

    /// What every request of the turn has in common.
    fn generate(&self) -> Generate {
        let mut sampling = self.plan.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(self.choice_idx as u64);
        let max_tokens = self.plan.max_tokens.saturating_sub(self.n_completion());
        Generate {
            max_tokens: Some(max_tokens),
            sampling,
            without_logprobs: self.plan.n_top_logprobs.is_none(),
            ..Generate::default()
        }
    }

    /// Asks the engine to continue the context, and shows `watch` what comes.
    async fn ask(
        &mut self,
        generate: Generate,
        mut watch: impl FnMut(Watched) -> ControlFlow<()> + Send,
    ) -> Result<Answer, RequestError> {
        if generate.max_tokens == Some(0) {
            return Err(RequestError::BudgetTooSmall {
                given: self.n_completion() + 1,
                limit: self.plan.max_tokens,
            });
        }
        let (sender, mut events) = mpsc::unbounded_channel();
        let sink = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let work = Work::Generate(Box::new(generate));
        let request = Request {
            prompt: self.context.clone(),
            namespace: 0,
            work,
        };
        let _running = Running {
            id: self.model.submit(request, sink)?,
            model: self.model.clone(),
        };
        while let Some(event) = events.recv().await {
            match event {
                Event::Started { n_cached } => {
                    if self.n_cached.is_none() {
                        self.n_cached = Some(n_cached);
                        let _ = self.deltas.send(Delta::Started);
                    }
                }
                Event::Token(token) => {
                    if watch(Watched::Token(&token)).is_break() {
                        return Ok(Answer::Broken);
                    }
                }
                Event::Finished(Finished {
                    reason: FinishReason::Cancelled,
                    ..
                }) => {
                    return Err(RequestError::ShuttingDown);
                }
                Event::Finished(finished) => {
                    let _ = watch(Watched::Finished(&finished));
                    return Ok(Answer::Finished(finished));
                }
                Event::Failed(error) => return Err(error),
                Event::Scored { .. } | Event::Published { .. } => {
                    return Err(RequestError::Internal);
                }
            }
        }
        Err(RequestError::Internal)
    }
}

/// What a watcher sees.
enum Watched<'a> {
    Token(&'a Token),
    Finished(&'a Finished),
}

impl Watched<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Token(token) => &token.text,
            Self::Finished(finished) => &finished.text,
        }
    }
}

/// What follows `{"name":`, up to the arguments. A tool's name holds nothing that JSON escapes.
fn after_name(name: &str) -> String {
    format!(" \"{name}\", \"arguments\":")
}

/// A request that the engine has. Dropped, it is cancelled, which one that has ended does not mind.
struct Running {
    model: Arc<dyn Model>,
    id: RequestId,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.model.cancel(self.id);
    }
}
