//! A completion in chunks: each delta of a choice as one `chat.completion.chunk`.

use serde_json::{Value, json};

use super::response::{Head, usage};
use super::turn::{Delta, Outcome};
use crate::error::ApiError;

/// Writes the chunks of one response.
pub(crate) struct Chunks {
    head: Head,
    include_usage: bool,
    /// Which choices have said their role, which comes once.
    has_role: Vec<bool>,
    outcomes: Vec<Outcome>,
}

/// What to send for a delta.
pub(crate) enum Sent {
    /// These chunks.
    Chunks(Vec<Value>),
    /// These chunks and then the end marker.
    Last(Vec<Value>),
    /// This error, and then nothing.
    Error(ApiError),
}

impl Chunks {
    pub(crate) fn new(head: Head, include_usage: bool, n_choices: usize) -> Self {
        Self {
            head,
            include_usage,
            has_role: vec![false; n_choices],
            outcomes: Vec::new(),
        }
    }

    /// The chunks for the next delta of the choice `idx`.
    pub(crate) fn take(&mut self, idx: usize, delta: Delta) -> Sent {
        Sent::Chunks(match delta {
            Delta::Started => self.role(idx),
            Delta::Text(piece) => {
                let logprobs = piece
                    .logprobs
                    .map(|all| json!({ "content": all, "refusal": null }));
                vec![self.chunk(
                    idx,
                    &json!({ "content": piece.text }),
                    logprobs.as_ref(),
                    None,
                )]
            }
            Delta::Call {
                idx: call_idx,
                id,
                name,
            } => {
                let function = json!({ "name": name, "arguments": "" });
                let call = json!({ "index": call_idx, "id": id, "type": "function", "function": function });
                vec![self.chunk(idx, &json!({ "tool_calls": [call] }), None, None)]
            }
            Delta::Arguments {
                idx: call_idx,
                text,
            } => {
                let call = json!({ "index": call_idx, "function": { "arguments": text } });
                vec![self.chunk(idx, &json!({ "tool_calls": [call] }), None, None)]
            }
            Delta::Ended(Err(error)) => return Sent::Error(error.into()),
            Delta::Ended(Ok(outcome)) => return self.end(idx, outcome),
        })
    }

    fn role(&mut self, idx: usize) -> Vec<Value> {
        if std::mem::replace(&mut self.has_role[idx], true) {
            return Vec::new();
        }
        vec![self.chunk(
            idx,
            &json!({ "role": "assistant", "content": "" }),
            None,
            None,
        )]
    }

    fn end(&mut self, idx: usize, outcome: Outcome) -> Sent {
        let mut chunks = vec![self.chunk(idx, &json!({}), None, Some(outcome.finish.name()))];
        self.outcomes.push(outcome);
        if self.outcomes.len() < self.has_role.len() {
            return Sent::Chunks(chunks);
        }
        if self.include_usage {
            let mut chunk = self.head.fields("chat.completion.chunk");
            chunk["choices"] = json!([]);
            chunk["usage"] = usage(&self.outcomes);
            chunks.push(chunk);
        }
        Sent::Last(chunks)
    }

    fn chunk(
        &self,
        idx: usize,
        delta: &Value,
        logprobs: Option<&Value>,
        finish: Option<&str>,
    ) -> Value {
        let mut chunk = self.head.fields("chat.completion.chunk");
        chunk["choices"] = json!([
            { "index": idx, "delta": delta, "logprobs": logprobs, "finish_reason": finish },
        ]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}
