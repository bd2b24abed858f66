//! Bytes that must come, as the tokens that the model would have chosen for them.
//!
//! A *draft* is a guess: where the constraint leaves one way for the bytes, it still leaves many for the tokens, and which
//! of them the model prefers only its logits say. The guess is the tokenizer's own cut of the text, seen together with the
//! last tokens before it, for so the model saw text when it was trained.

use std::sync::Arc;

use lmrun_grammar::Vocabulary;

use crate::TokenId;

/// Tokens before the forced bytes that are looked at, for the cut at their border.
const N_TOKENS_BEFORE: usize = 3;

/// Cuts text into tokens as the checkpoint does.
pub(crate) type Encode = Box<dyn Fn(&str) -> Vec<TokenId> + Send + Sync>;

/// Cuts forced bytes into tokens.
pub(crate) struct Drafter {
    encode: Encode,
    vocabulary: Arc<Vocabulary>,
}

impl std::fmt::Debug for Drafter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Drafter").finish_non_exhaustive()
    }
}

impl Drafter {
    pub(crate) fn new(encode: Encode, vocabulary: Arc<Vocabulary>) -> Self {
        Self { encode, vocabulary }
    }

    /// Tokens for `forced`, less a half-written character at its end, after the tokens `before`. Their bytes are always
    /// a prefix of `forced`.
    pub(crate) fn draft(&self, before: &[TokenId], forced: &[u8]) -> Vec<TokenId> {
        let forced = forced
            .utf8_chunks()
            .next()
            .map_or("", |chunk| chunk.valid());
        if forced.is_empty() {
            return Vec::new();
        }
        let tail = &before[before.len().saturating_sub(N_TOKENS_BEFORE)..];
        [tail, &[]]
            .iter()
            .find_map(|tail| self.encoded(tail, forced))
            .or_else(|| self.vocabulary.cut(forced.as_bytes()))
            .unwrap_or_default()
    }

    /// What follows `tail` in the cut of `tail` and `forced` together, if the cut keeps `tail` and every byte.
    fn encoded(&self, tail: &[TokenId], forced: &str) -> Option<Vec<TokenId>> {
        let mut text = self.bytes(tail)?;
        text.extend_from_slice(forced.as_bytes());
        let tokens = (self.encode)(std::str::from_utf8(&text).ok()?);
        let rest = tokens.strip_prefix(tail)?;
        // Some tokenizers put a space before a text.
        (self.bytes(rest)? == forced.as_bytes()).then(|| rest.to_vec())
    }

    fn bytes(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.vocabulary.bytes(token)?);
        }
        Some(bytes)
    }
}
