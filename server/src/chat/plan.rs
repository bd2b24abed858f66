//! From a request to what the engine will be asked: prompt tokens, compiled constraints, budget.

use lmrun_engine::{Sampling, TokenId};
use lmrun_grammar::{Constraint, Matcher};

use super::constraint::{self, Language};
use super::prompt;
use super::request::ChatRequest;
use super::tools::{self, Callable, Choice, MAX_CALLS, OPENING};
use crate::error::ApiError;
use crate::limits::grammar_limits;
use crate::model::Model;

/// What one choice's generation follows. Shared by the choices of a request.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) mode: Mode,
    pub(crate) sampling: Sampling,
    /// Of free text only: a stop string within JSON would cut it.
    pub(crate) stop: Vec<String>,
    pub(crate) max_tokens: usize,
    pub(crate) n_top_logprobs: Option<usize>,
}

/// What the assistant's turn consists of.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Text.
    Free,
    /// Text of a format.
    Formatted(Constraint),
    /// Calls and nothing else.
    Calls(Calls),
    /// Text, then calls if the model opens one.
    FreeOrCalls(Calls),
    /// Text of a format, or calls, as the model begins.
    FormattedOrCalls {
        format: Constraint,
        /// The opening of a call, or whatever the format's first byte may begin.
        beginning: Constraint,
        calls: Calls,
    },
}

/// Which tools can be called, and how often.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) tools: Vec<Callable>,
    pub(crate) max: usize,
}

impl Plan {
    /// Renders and tokenises. This can take a while: not for a thread that serves others.
    pub(crate) fn new(
        request: ChatRequest,
        mode: Mode,
        model: &dyn Model,
        specials: &[String],
        max_tokens: usize,
    ) -> Result<Self, ApiError> {
        check_biases(&request.sampling, model.n_vocab())?;
        let max_tokens = budget(request.max_tokens, max_tokens)?;
        let shown = match request.tool_choice {
            Choice::Never => &[][..],
            _ => &request.tools,
        };
        let prompt = prompt::tokens(model, specials, request.messages, shown)?;
        let room = room(prompt.len(), model.context_length())?;
        let max_tokens = match request.max_tokens {
            // The engine refuses, with both numbers, what was asked for and does not fit.
            Some(_) => max_tokens,
            None => max_tokens.min(room),
        };
        Ok(Self {
            prompt,
            mode,
            sampling: request.sampling,
            stop: request.stop,
            max_tokens,
            n_top_logprobs: request.n_top_logprobs,
        })
    }
}

fn check_biases(sampling: &Sampling, n_vocab: usize) -> Result<(), ApiError> {
    match sampling
        .logit_bias
        .iter()
        .find(|(token, _)| *token as usize >= n_vocab)
    {
        None => Ok(()),
        Some((token, _)) => {
            let message = format!("token {token} does not exist: the model has {n_vocab}");
            Err(ApiError::invalid(format!("logit_bias.{token}"), message))
        }
    }
}

fn budget(given: Option<usize>, limit: usize) -> Result<usize, ApiError> {
    let max_tokens = given.unwrap_or(limit);
    if max_tokens <= limit {
        return Ok(max_tokens);
    }
    let message = format!("max_tokens is {max_tokens}, the server's limit is {limit}");
    Err(ApiError::invalid("max_tokens", message))
}

/// Tokens that the context still holds after the prompt.
fn room(n_prompt: usize, context_length: usize) -> Result<usize, ApiError> {
    match context_length.checked_sub(n_prompt) {
        Some(room @ 1..) => Ok(room),
        _ => {
            let error = lmrun_engine::RequestError::ContextLength {
                given: n_prompt.saturating_add(1),
                limit: context_length,
            };
            Err(error.into())
        }
    }
}

impl Mode {
    /// What a request asks for, its constraints compiled. This, too, can take a while.
    pub(crate) fn compile(request: &ChatRequest, model: &dyn Model) -> Result<Self, ApiError> {
        mode(request, model)
    }
}

fn mode(request: &ChatRequest, model: &dyn Model) -> Result<Mode, ApiError> {
    let max = if request.has_parallel_calls {
        MAX_CALLS
    } else {
        1
    };
    let calls = |tools, max| {
        Ok::<_, ApiError>(Calls {
            tools: tools::callables(tools)?,
            max,
        })
    };
    // Compiled even where calls leave no place for it: a format that is wrong is an error whenever it is sent.
    let format = request
        .format
        .as_ref()
        .map(constraint::compile)
        .transpose()?;
    match (&request.tool_choice, format) {
        (Choice::Never, None) => Ok(Mode::Free),
        (Choice::Never, Some(format)) => Ok(Mode::Formatted(format)),
        (Choice::Required, _) => Ok(Mode::Calls(calls(&request.tools, max)?)),
        (Choice::Named(idx), _) => Ok(Mode::Calls(calls(
            std::slice::from_ref(&request.tools[*idx]),
            1,
        )?)),
        (Choice::Auto, None) => Ok(Mode::FreeOrCalls(calls(&request.tools, max)?)),
        (Choice::Auto, Some(format)) => {
            refuse_ambiguous(request)?;
            let beginning = beginning(&format, model)?;
            let calls = calls(&request.tools, max)?;
            Ok(Mode::FormattedOrCalls {
                format,
                beginning,
                calls,
            })
        }
    }
}

/// No JSON text begins as a call does; of other formats that cannot be known.
fn refuse_ambiguous(request: &ChatRequest) -> Result<(), ApiError> {
    match &request.format {
        Some(format) if !matches!(format.language, Language::Json(_)) => {
            let message = "beside tools that the model may call, the format must be JSON";
            Err(ApiError::unsupported(format.path.clone(), message))
        }
        _ => Ok(()),
    }
}

/// What decides between a call and an answer of `format`: both can begin, and the model chooses.
fn beginning(format: &Constraint, model: &dyn Model) -> Result<Constraint, ApiError> {
    let matcher = Matcher::new(format.clone(), model.vocabulary().clone());
    let forced = matcher.map_err(|_| ApiError::internal())?.forced_bytes();
    let first = match forced.first() {
        Some(byte) if byte.is_ascii() => format!("\\x{byte:02x}"),
        _ => "[\\[{\"0-9tfn-]".to_owned(),
    };
    let pattern = format!("{OPENING}\\n|{first}[\\s\\S]*");
    Constraint::regex(&pattern, &grammar_limits()).map_err(|_| ApiError::internal())
}
