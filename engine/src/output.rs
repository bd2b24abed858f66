//! The text of an output in the making: bytes to whole characters, and stop strings that may lie across tokens.
//!
//! Stops are sought in bytes: a stop is valid UTF-8, so it can only be found where a reader of the text would find it.

#[cfg(test)]
mod tests;

use crate::TokenId;

/// What a token adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Text that can no longer become part of a stop.
    pub(crate) text: String,
    /// The stop string that was found; the output ends before it.
    pub(crate) stop: Option<String>,
}

/// An output's tokens and their bytes.
#[derive(Debug)]
pub(crate) struct Output {
    stops: Vec<String>,
    tokens: Vec<TokenId>,
    /// Where each token's bytes begin. `[n_tokens]`
    starts: Vec<usize>,
    bytes: Vec<u8>,
    /// Bytes whose text was given out.
    n_released: usize,
}

impl Output {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            tokens: Vec::new(),
            starts: Vec::new(),
            bytes: Vec::new(),
            n_released: 0,
        }
    }

    /// Every token pushed, those of a stop excepted.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Takes the next token with its bytes; a special token has none.
    pub(crate) fn push(&mut self, token: TokenId, bytes: &[u8]) -> Pushed {
        self.tokens.push(token);
        self.starts.push(self.bytes.len());
        let n_before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if let Some((at, stop)) = self.find_stop(n_before) {
            let stop = self.stops[stop].clone();
            self.bytes.truncate(at);
            let n_kept = self.starts.partition_point(|&start| start < at);
            self.tokens.truncate(n_kept);
            self.starts.truncate(n_kept);
            return Pushed {
                text: self.release(at, true),
                stop: Some(stop),
            };
        }
        let text = self.release(self.bytes.len() - self.n_held_back(), false);
        Pushed { text, stop: None }
    }

    /// The text held back until now, at the end of the output. An incomplete character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        self.release(self.bytes.len(), true)
    }

    /// The first stop that the bytes from `n_before` on complete: where it begins, and which it is. The longest wins
    /// among those that begin together.
    fn find_stop(&self, n_before: usize) -> Option<(usize, usize)> {
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(stop_idx, stop)| {
                let stop = stop.as_bytes();
                let from = (n_before + 1)
                    .saturating_sub(stop.len())
                    .max(self.n_released);
                let windows = self.bytes[from..].windows(stop.len());
                let at = windows.into_iter().position(|window| window == stop)?;
                Some((from + at, stop_idx))
            });
        found.min_by_key(|&(at, stop_idx)| (at, usize::MAX - self.stops[stop_idx].len()))
    }

    /// Bytes at the end that may be the beginning of a stop.
    fn n_held_back(&self) -> usize {
        let pending = &self.bytes[self.n_released..];
        let held = self.stops.iter().map(|stop| {
            let most = pending.len().min(stop.len() - 1);
            let begins = |&n: &usize| stop.as_bytes().starts_with(&pending[pending.len() - n..]);
            (1..=most).rev().find(begins).unwrap_or(0)
        });
        held.max().unwrap_or(0)
    }

    /// The text of the bytes up to `end`; an incomplete character at the end waits unless the output is `whole`.
    fn release(&mut self, end: usize, whole: bool) -> String {
        let mut text = String::new();
        for chunk in self.bytes[self.n_released..end].utf8_chunks() {
            text.push_str(chunk.valid());
            self.n_released += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = self.n_released + invalid.len() == end;
            if invalid.is_empty() || (is_last && !whole && is_incomplete(invalid)) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            self.n_released += invalid.len();
        }
        text
    }
}

/// Whether more bytes could make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
