//! The body of `POST /v1/chat/completions`, field by field.
//!
//! A field is served, or known to change nothing here and skipped, or refused: nothing that a client asks for is
//! dropped in silence.

use lmrun_engine::{Sampling, TokenId};
use serde_json::Value;

use super::constraint::{self, Format};
use super::fields::{Fields, wrong};
use super::messages;
use super::tools::{self, Choice, Tool};
use crate::error::ApiError;
use crate::random;

/// Choices of one request.
const MAX_CHOICES: i64 = 8;
/// Stop strings, and bytes of one.
const MAX_STOPS: usize = 4;
const MAX_STOP_BYTES: usize = 256;
/// Entries of `logit_bias`.
const MAX_BIASES: usize = 1024;
const MAX_TOP_LOGPROBS: i64 = 20;

/// Fields that are served; those of [`constraint`] come on top.
const SERVED: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
];

/// Fields about the client's account with a provider: whatever they say, the answer is the same.
const SKIPPED: &[&str] = &[
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Known fields that are not served, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("functions", "use `tools`"),
    ("function_call", "use `tool_choice`"),
    ("audio", "only text is generated"),
    ("prediction", "there is no speculation on a given text"),
    ("web_search_options", "the server reaches no network"),
    ("reasoning_effort", "the model's reasoning cannot be set"),
    ("verbosity", "ask for it in a message"),
];

/// A request, read and checked as far as can be without the model.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    /// Ready for the template: see [`messages::normalise`].
    pub(crate) messages: Vec<Value>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) n_choices: usize,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) sampling: Sampling,
    /// How many alternatives to report with each token; none reports no log-probabilities.
    pub(crate) n_top_logprobs: Option<usize>,
    pub(crate) format: Option<Format>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: Choice,
    pub(crate) has_parallel_calls: bool,
}

impl ChatRequest {
    /// Reads a body.
    pub(crate) fn parse(body: &Value) -> Result<Self, ApiError> {
        let fields = Fields::new(body, "")?;
        refuse_unserved(fields)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let tools = tools::read(fields)?;
        let n_choices = fields.integer("n", 1..=MAX_CHOICES)?.unwrap_or(1);
        Ok(Self {
            model: fields.text("model")?.map(str::to_owned),
            messages: messages::normalise(fields)?,
            stream,
            include_usage: include_usage(fields, stream)?,
            n_choices: usize::try_from(n_choices).expect("checked to be in 1..=8"),
            max_tokens: max_tokens(fields)?,
            stop: stop(fields)?,
            sampling: sampling(fields)?,
            n_top_logprobs: n_top_logprobs(fields)?,
            format: constraint::read(fields)?,
            tool_choice: tools::read_choice(fields, &tools)?,
            tools,
            has_parallel_calls: fields.flag("parallel_tool_calls")?.unwrap_or(true),
        })
    }
}

fn refuse_unserved(fields: Fields) -> Result<(), ApiError> {
    for name in fields.names() {
        if SERVED.contains(&name) || SKIPPED.contains(&name) || constraint::DIALECTS.contains(&name)
        {
            continue;
        }
        if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(ApiError::unsupported(
                name,
                format!("`{name}` is not served: {advice}"),
            ));
        }
        if name == "modalities" {
            if fields.get(name) == Some(&Value::from(vec!["text"])) {
                continue;
            }
            return Err(ApiError::unsupported(
                name,
                "the only modality served is \"text\"",
            ));
        }
        return Err(ApiError::unsupported(
            name,
            format!("there is no field `{name}`"),
        ));
    }
    Ok(())
}

fn include_usage(fields: Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.get("stream_options") else {
        return Ok(false);
    };
    if !stream {
        let message = "stream_options are for `stream: true` only";
        return Err(ApiError::invalid("stream_options", message));
    }
    let options = Fields::new(options, "stream_options")?;
    Ok(options.flag("include_usage")?.unwrap_or(false))
}

fn max_tokens(fields: Fields) -> Result<Option<usize>, ApiError> {
    let old = fields.integer("max_tokens", 1..)?;
    let new = fields.integer("max_completion_tokens", 1..)?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        let message = format!("max_tokens is {old} and max_completion_tokens {new}: give one");
        return Err(ApiError::invalid("max_tokens", message));
    }
    Ok(new
        .or(old)
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
}

fn stop(fields: Fields) -> Result<Vec<String>, ApiError> {
    let expected = "a string or an array of strings";
    let stops: Vec<String> = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops
            .iter()
            .map(|stop| stop.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| ApiError::invalid("stop", format!("stop must be {expected}")))?,
        Some(other) => return Err(wrong("stop", expected, other)),
    };
    if stops.len() > MAX_STOPS {
        let message = format!(
            "stop holds {} strings, the limit is {MAX_STOPS}",
            stops.len()
        );
        return Err(ApiError::invalid("stop", message));
    }
    if let Some(stop) = stops
        .iter()
        .find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
    {
        let n_bytes = stop.len();
        let message = format!("a stop string has {n_bytes} bytes, it must be 1..={MAX_STOP_BYTES}");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stops)
}

fn sampling(fields: Fields) -> Result<Sampling, ApiError> {
    let number = |name, range, default| {
        fields
            .number(name, range)
            .map(|value| value.map_or(default, |value| value as f32))
    };
    // -1 is what some clients send for all tokens.
    let top_k = fields
        .integer("top_k", -1..=i64::from(u32::MAX))?
        .unwrap_or(0)
        .max(0);
    Ok(Sampling {
        temperature: number("temperature", 0.0..=2.0, 1.0)?,
        top_k: usize::try_from(top_k).unwrap_or(0),
        // 0 keeps the most probable token, which the least positive share does too.
        top_p: number("top_p", 0.0..=1.0, 1.0)?.max(f32::MIN_POSITIVE),
        min_p: number("min_p", 0.0..=1.0, 0.0)?,
        repetition_penalty: number("repetition_penalty", 0.01..=10.0, 1.0)?,
        presence_penalty: number("presence_penalty", -2.0..=2.0, 0.0)?,
        frequency_penalty: number("frequency_penalty", -2.0..=2.0, 0.0)?,
        logit_bias: logit_bias(fields)?,
        seed: match fields.integer("seed", ..)? {
            Some(seed) => seed.cast_unsigned(),
            None => random::number(),
        },
    })
}

fn logit_bias(fields: Fields) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let Some(map) = fields.object("logit_bias")? else {
        return Ok(Vec::new());
    };
    if map.len() > MAX_BIASES {
        let message = format!(
            "logit_bias has {} entries, the limit is {MAX_BIASES}",
            map.len()
        );
        return Err(ApiError::invalid("logit_bias", message));
    }
    map.iter()
        .map(|(token, bias)| {
            let id = token.parse::<TokenId>().ok();
            let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
            match (id, bias) {
                (Some(id), Some(bias)) => Ok((id, bias as f32)),
                _ => {
                    let message = "logit_bias maps token ids to numbers in -100..=100";
                    Err(ApiError::invalid(format!("logit_bias.{token}"), message))
                }
            }
        })
        .collect()
}

fn n_top_logprobs(fields: Fields) -> Result<Option<usize>, ApiError> {
    let n_top = fields.integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
    if fields.flag("logprobs")?.unwrap_or(false) {
        return Ok(Some(usize::try_from(n_top.unwrap_or(0)).unwrap_or(0)));
    }
    match n_top {
        Some(1..) => Err(ApiError::invalid(
            "top_logprobs",
            "top_logprobs needs `logprobs: true`",
        )),
        _ => Ok(None),
    }
}
