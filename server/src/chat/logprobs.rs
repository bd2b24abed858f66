//! Text in pieces, with the log-probabilities of the tokens that make it up, in the OpenAI API's shape.

use lmrun_engine::{Finished, Token, TokenId};
use serde_json::{Value, json};

use crate::model::Model;

/// What stands for minus infinity, which JSON cannot hold.
const LEAST_LOGPROB: f32 = -9999.0;

/// Some text and the tokens that completed it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// One entry a token; none when they were not asked for.
    pub(crate) logprobs: Option<Vec<Value>>,
}

/// Joins tokens to pieces: a token without text of its own (half a character, or text held back because a stop string
/// may follow) waits for the one that completes it.
pub(crate) struct Pieces {
    waiting: Option<Vec<Value>>,
    n_sent: usize,
}

impl Pieces {
    pub(crate) fn new(has_logprobs: bool) -> Self {
        Self {
            waiting: has_logprobs.then(Vec::new),
            n_sent: 0,
        }
    }

    /// The piece that this token completes, if it completes one.
    pub(crate) fn token(&mut self, model: &dyn Model, token: &Token) -> Option<Piece> {
        if let Some(waiting) = &mut self.waiting {
            waiting.push(token_entry(model, token));
        }
        (!token.text.is_empty()).then(|| self.piece(&token.text))
    }

    /// The rest. Tokens of a stop string are dropped with its text.
    pub(crate) fn finish(&mut self, finished: &Finished) -> Option<Piece> {
        if let Some(waiting) = &mut self.waiting {
            waiting.truncate(finished.tokens.len().saturating_sub(self.n_sent));
        }
        let is_empty = self.waiting.as_ref().is_none_or(Vec::is_empty);
        (!finished.text.is_empty() || !is_empty).then(|| self.piece(&finished.text))
    }

    fn piece(&mut self, text: &str) -> Piece {
        let logprobs = self.waiting.as_mut().map(std::mem::take);
        self.n_sent += logprobs.as_ref().map_or(0, Vec::len);
        Piece {
            text: text.to_owned(),
            logprobs,
        }
    }
}

fn token_entry(model: &dyn Model, token: &Token) -> Value {
    let mut entry = entry(model, token.id, token.logprob);
    let top = token
        .top
        .iter()
        .map(|&(id, logprob)| self::entry(model, id, logprob));
    entry["top_logprobs"] = top.collect();
    entry
}

fn entry(model: &dyn Model, id: TokenId, logprob: f32) -> Value {
    json!({
        "token": model.decode(&[id]),
        "logprob": logprob.max(LEAST_LOGPROB),
        "bytes": model.token_bytes(id),
    })
}
