//! Tokens to text as they arrive.

use std::sync::Arc;

use crate::{TokenId, Tokenizer};

/// A streaming detokeniser: gives text as soon as it is whole UTF-8.
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    pending: Vec<u8>,
}

impl TextStream {
    /// A stream with nothing pushed yet.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            pending: Vec::new(),
        }
    }

    /// The text that `token` completes; empty while a character is incomplete and for special tokens.
    pub fn push(&mut self, token: TokenId) -> String {
        let Some(bytes) = self.tokenizer.token_bytes(token) else {
            return String::new();
        };
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        None => {
                            self.pending = rest.to_vec();
                            return text;
                        }
                        Some(n_bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.pending = rest[n_bad..].to_vec();
                        }
                    }
                }
            }
        }
    }

    /// What is left at the end: one U+FFFD if a character was never completed.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}
