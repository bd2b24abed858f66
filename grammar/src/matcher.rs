//! Follows one output through a constraint, token by token.

use std::sync::{Arc, MutexGuard};

use crate::language::{Language, State};
use crate::{Constraint, GrammarError, TokenId, TokenMask, Vocabulary};

/// Bytes that [`Matcher::forced_bytes`] returns at most.
const MAX_FORCED_BYTES: usize = 4096;

/// Bytes up to which a completion is spelled out to count its tokens.
const MAX_COMPLETION_BYTES: usize = 4096;
/// Bytes that a shortest completion tries before the others, roughly by how often they are right.
const COMPLETION_ORDER: &[u8] = b"\"}],:0[{1aetnrlsuoicdfm";

/// One output in the making. Its state is a value, so that a clone goes its own way and a rollback
/// is a truncation.
#[derive(Clone, Debug)]
pub struct Matcher {
    constraint: Constraint,
    vocabulary: Arc<Vocabulary>,
    /// Where the output stood after 0, 1, ... accepted tokens; never empty.
    history: Vec<Position>,
    /// The output so far, the constraint's prefix included.
    text: Vec<u8>,
}

/// A place in the constraint's prefix, then in its language.
#[derive(Clone, Debug)]
struct Position {
    n_prefix: usize,
    /// Bytes of the output.
    n_bytes: usize,
    state: State,
}

impl Position {
    fn step(
        &self,
        language: &mut Language,
        prefix: &[u8],
        byte: u8,
    ) -> Result<Option<Self>, GrammarError> {
        match prefix.get(self.n_prefix) {
            None => {
                let state = language.step(&self.state, byte)?;
                Ok(state.map(|state| Self {
                    n_prefix: self.n_prefix,
                    n_bytes: self.n_bytes + 1,
                    state,
                }))
            }
            Some(&due) if due == byte => Ok(Some(Self {
                n_prefix: self.n_prefix + 1,
                n_bytes: self.n_bytes + 1,
                state: self.state.clone(),
            })),
            Some(_) => Ok(None),
        }
    }

    fn is_complete(&self, language: &mut Language, prefix: &[u8]) -> bool {
        self.n_prefix == prefix.len() && language.is_complete(&self.state)
    }

    fn distance(&self, language: &mut Language, prefix: &[u8]) -> usize {
        prefix.len() - self.n_prefix + language.distance(&self.state)
    }
}

impl Matcher {
    /// A matcher at the start of an output.
    ///
    /// # Errors
    /// `NoToken` if the vocabulary has no token that can begin an output.
    pub fn new(constraint: Constraint, vocabulary: Arc<Vocabulary>) -> Result<Self, GrammarError> {
        let state = constraint.language(&[]).start();
        let history = vec![Position {
            n_prefix: 0,
            n_bytes: 0,
            state,
        }];
        let mut matcher = Self {
            constraint,
            vocabulary,
            history,
            text: Vec::new(),
        };
        let mut mask = TokenMask::new(matcher.vocabulary.n_tokens());
        matcher.mask(&mut mask)?;
        Ok(matcher)
    }

    /// Sets `mask` to the legal next tokens; end tokens are among them exactly when the output is
    /// complete.
    ///
    /// # Errors
    /// `MaskSize`, `Limit`, and `NoToken` where the vocabulary lacks a byte that must come.
    pub fn mask(&mut self, mask: &mut TokenMask) -> Result<(), GrammarError> {
        self.mask_within(mask, usize::MAX)?;
        if mask.is_empty() {
            Err(GrammarError::NoToken)
        } else {
            Ok(())
        }
    }

    /// The legal tokens that leave at most `limit` bytes to completion.
    fn mask_within(&self, mask: &mut TokenMask, limit: usize) -> Result<(), GrammarError> {
        let (given, expected) = (mask.n_tokens(), self.vocabulary.n_tokens());
        if given != expected {
            return Err(GrammarError::MaskSize { given, expected });
        }
        let position = self.position();
        let prefix = self.constraint.prefix();
        let mut language = self.language();
        if position.n_prefix == prefix.len() {
            language.mask(&position.state, &self.vocabulary, limit, mask)?;
        } else {
            mask.clear();
            self.vocabulary.all().walk(
                &mut *language,
                position.clone(),
                |language, position, byte| position.step(language, prefix, byte),
                |language, token, position| {
                    if position.distance(language, prefix) <= limit {
                        mask.allow(token);
                    }
                },
            )?;
        }
        if position.is_complete(&mut language, prefix) {
            self.vocabulary
                .end_tokens()
                .iter()
                .for_each(|&end| mask.allow(end));
        }
        Ok(())
    }

    /// Takes the next token. An end token leaves the matcher where it is.
    ///
    /// # Errors
    /// `IllegalToken` if the mask does not hold it, `Limit`; the matcher is then as before.
    pub fn accept(&mut self, token: TokenId) -> Result<(), GrammarError> {
        let illegal = GrammarError::IllegalToken {
            token,
            n_accepted: self.history.len() - 1,
        };
        let prefix = self.constraint.prefix();
        let mut language = self.language();
        let mut position = self.position().clone();
        let is_end = self.vocabulary.end_tokens().contains(&token);
        if is_end {
            if !position.is_complete(&mut language, prefix) {
                return Err(illegal);
            }
        } else {
            let Some(bytes) = self.vocabulary.bytes(token) else {
                return Err(illegal);
            };
            for &byte in bytes {
                match position.step(&mut language, prefix, byte)? {
                    Some(next) => position = next,
                    None => return Err(illegal),
                }
            }
        }
        drop(language);
        if let Some(bytes) = self.vocabulary.bytes(token).filter(|_| !is_end) {
            self.text.extend_from_slice(bytes);
        }
        self.history.push(position);
        Ok(())
    }

    /// Forgets the last `n_tokens` accepted tokens, end tokens among them; at most all of them.
    pub fn rollback(&mut self, n_tokens: usize) {
        let n_kept = self.history.len().saturating_sub(n_tokens).max(1);
        self.history.truncate(n_kept);
        self.text.truncate(self.position().n_bytes);
    }

    /// Whether the output so far is in the language.
    pub fn is_complete(&self) -> bool {
        self.position()
            .is_complete(&mut self.language(), self.constraint.prefix())
    }

    /// Whether it is complete and nothing but an end token can follow.
    pub fn is_finished(&mut self) -> bool {
        let prefix = self.constraint.prefix();
        let mut language = self.language();
        let position = self.position();
        position.is_complete(&mut language, prefix)
            && (0..=u8::MAX)
                .all(|byte| matches!(position.step(&mut language, prefix, byte), Ok(None)))
    }

    /// Whether no token so far can turn out to lead nowhere. A token after which nothing may follow
    /// ([`Matcher::mask`] then says `NoToken`) is possible only while a value is open that is judged
    /// when it is whole, and then it can be replaced within that value or not at all.
    pub fn is_settled(&self) -> bool {
        self.position().state.is_settled()
    }

    /// The bytes that must come next whatever the model says: 4,096 at most, none once the output
    /// is complete.
    pub fn forced_bytes(&mut self) -> Vec<u8> {
        self.forced_bytes_within(MAX_FORCED_BYTES)
    }

    /// Like [`Matcher::forced_bytes`], but at most `limit`.
    pub fn forced_bytes_within(&mut self, limit: usize) -> Vec<u8> {
        let prefix = self.constraint.prefix();
        let mut language = self.language();
        let mut position = self.position().clone();
        let mut forced = Vec::new();
        while forced.len() < limit && !position.is_complete(&mut language, prefix) {
            let mut only = None;
            for byte in 0..=u8::MAX {
                match position.step(&mut language, prefix, byte) {
                    Ok(None) => {}
                    Ok(Some(_)) if only.is_none() => only = Some(byte),
                    Ok(Some(_)) | Err(_) => return forced,
                }
            }
            // Taken last, for what is judged by its text is judged by the bytes that were taken last.
            let taken = only.map(|byte| (byte, position.step(&mut language, prefix, byte)));
            let Some((byte, Ok(Some(next)))) = taken else {
                break;
            };
            forced.push(byte);
            position = next;
        }
        forced
    }

    /// Tokens within which the output can be completed, the end token not counted; 0 once it is
    /// complete.
    ///
    /// It is an upper bound: a shortest completion in bytes, cut greedily into the longest tokens,
    /// or its bytes where those are more than 4,096. It holds for a vocabulary with a token for
    /// every byte.
    pub fn min_tokens_to_accept(&mut self) -> usize {
        self.completion().0
    }

    /// Bytes of a shortest completion of the output; 0 once it is complete.
    pub fn min_bytes_to_accept(&self) -> usize {
        self.position()
            .distance(&mut self.language(), self.constraint.prefix())
    }

    /// Like [`Matcher::mask`], with only tokens after which [`Matcher::min_tokens_to_accept`] is at
    /// most `budget - 1`.
    ///
    /// Called at every step with the tokens left, it never lets an output be cut: while the budget
    /// is at least `min_tokens_to_accept` the mask is not empty, and any of its tokens keeps that
    /// so. Far from the end it equals `mask`; near it, it is stricter than it need be, for it counts
    /// bytes as tokens where it can. Distances cost more than a mask where a place is new.
    ///
    /// # Errors
    /// As `mask`; `Budget` if `budget` is below `min_tokens_to_accept`.
    pub fn mask_toward_end(
        &mut self,
        mask: &mut TokenMask,
        budget: usize,
    ) -> Result<(), GrammarError> {
        self.mask_within(mask, budget.saturating_sub(1))?;
        if budget == 0 {
            let ends = self.vocabulary.end_tokens();
            let n_ends = if self.is_complete() { ends.len() } else { 0 };
            mask.clear();
            ends[..n_ends].iter().for_each(|&end| mask.allow(end));
        }
        if !mask.is_empty() {
            return Ok(());
        }
        let (needed, first) = self.completion();
        match first {
            Some(first) if needed <= budget => mask.allow(first),
            _ => return Err(GrammarError::Budget { needed, budget }),
        }
        Ok(())
    }

    /// The tokens of a shortest completion, and the first of them. Which completion it is depends
    /// on the state alone, so after its first token its rest is the completion, and greedy cutting
    /// cuts it alike.
    fn completion(&self) -> (usize, Option<TokenId>) {
        let prefix = self.constraint.prefix();
        let mut language = self.language();
        let mut position = self.position().clone();
        let n_bytes = position.distance(&mut language, prefix);
        if n_bytes > MAX_COMPLETION_BYTES {
            return (n_bytes, None);
        }
        let mut bytes = Vec::with_capacity(n_bytes);
        let mut left = n_bytes;
        while left > 0 {
            let nearer = COMPLETION_ORDER
                .iter()
                .copied()
                .chain(0..=u8::MAX)
                .find_map(|byte| {
                    let next = position.step(&mut language, prefix, byte).ok()??;
                    let next_left = next.distance(&mut language, prefix);
                    (next_left < left).then_some((byte, next, next_left))
                });
            let Some((byte, next, next_left)) = nearer else {
                return (n_bytes, None);
            };
            bytes.push(byte);
            (position, left) = (next, next_left);
        }
        match self.vocabulary.cut(&bytes) {
            Some(tokens) => (tokens.len(), tokens.first().copied()),
            None => (n_bytes, None),
        }
    }

    /// The constraint's language, for one operation on this output.
    fn language(&self) -> MutexGuard<'_, Language> {
        let n_prefix = self.position().n_prefix;
        self.constraint.language(&self.text[n_prefix..])
    }

    fn position(&self) -> &Position {
        self.history
            .last()
            .expect("history holds the start at least")
    }
}
