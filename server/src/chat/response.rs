//! A completion in one piece.

use serde_json::{Value, json};

use super::turn::{Delta, Finish, Outcome};
use crate::error::ApiError;

/// What a response says of itself, in one piece or in many.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Unlike every other response's.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
}

impl Head {
    /// The fields that a completion and its chunks share.
    pub(crate) fn fields(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("lmrun-", env!("CARGO_PKG_VERSION")),
        })
    }
}

/// One choice as it grows.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    text: String,
    logprobs: Option<Vec<Value>>,
    calls: Vec<Value>,
    outcome: Option<Outcome>,
}

impl Collected {
    /// Takes the next delta.
    pub(crate) fn take(&mut self, delta: Delta) -> Result<(), ApiError> {
        match delta {
            Delta::Started => {}
            Delta::Text(piece) => {
                self.text.push_str(&piece.text);
                if let Some(logprobs) = piece.logprobs {
                    self.logprobs.get_or_insert_default().extend(logprobs);
                }
            }
            Delta::Call { id, name, .. } => self.calls.push(json!({
                "id": id,
                "type": "function",
                "function": { "name": name, "arguments": "" },
            })),
            Delta::Arguments { idx, text } => {
                if let Some(Value::String(arguments)) = self
                    .calls
                    .get_mut(idx)
                    .map(|call| &mut call["function"]["arguments"])
                {
                    arguments.push_str(&text);
                }
            }
            Delta::Ended(outcome) => self.outcome = Some(outcome?),
        }
        Ok(())
    }

    /// The choice, with a message that has no content beside calls without text.
    fn choice(self, idx: usize) -> Value {
        let has_calls = !self.calls.is_empty();
        let text = if has_calls {
            self.text.trim_end()
        } else {
            &self.text
        };
        let content = if has_calls && text.is_empty() {
            Value::Null
        } else {
            json!(text)
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if has_calls {
            message["tool_calls"] = Value::Array(self.calls);
        }
        let finish = self
            .outcome
            .map_or(Finish::Length, |outcome| outcome.finish);
        let logprobs = self
            .logprobs
            .map(|content| json!({ "content": content, "refusal": null }));
        json!({ "index": idx, "message": message, "logprobs": logprobs, "finish_reason": finish.name() })
    }
}

/// The whole completion.
pub(crate) fn completion(head: &Head, choices: Vec<Collected>) -> Value {
    let outcomes: Vec<Outcome> = choices.iter().filter_map(|choice| choice.outcome).collect();
    let mut completion = head.fields("chat.completion");
    completion["choices"] = choices
        .into_iter()
        .enumerate()
        .map(|(i, choice)| choice.choice(i))
        .collect();
    completion["usage"] = usage(&outcomes);
    completion
}

/// What the choices cost together: they share one prompt.
pub(crate) fn usage(outcomes: &[Outcome]) -> Value {
    let n_prompt = outcomes.first().map_or(0, |outcome| outcome.n_prompt);
    let n_cached = outcomes.first().map_or(0, |outcome| outcome.n_cached);
    let n_completion: usize = outcomes.iter().map(|outcome| outcome.n_completion).sum();
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
        "prompt_tokens_details": { "cached_tokens": n_cached },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}
