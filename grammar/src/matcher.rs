//! Follows one output through a constraint, token by token.

use std::sync::Arc;

use crate::language::{Language, State};
use crate::{Constraint, GrammarError, TokenId, TokenMask, Vocabulary};

/// Bytes that [`Matcher::forced_bytes`] returns at most.
const MAX_FORCED_BYTES: usize = 4096;

/// One output in the making. Its state is a value, so that a clone goes its own way and a rollback is a truncation.
#[derive(Clone, Debug)]
pub struct Matcher {
    constraint: Constraint,
    vocabulary: Arc<Vocabulary>,
    /// Where the output stood after 0, 1, ... accepted tokens; never empty.
    history: Vec<Position>,
}

/// A place in the constraint's prefix, then in its language.
#[derive(Clone, Debug)]
struct Position {
    n_prefix: usize,
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
                    state,
                }))
            }
            Some(&due) if due == byte => Ok(Some(Self {
                n_prefix: self.n_prefix + 1,
                state: self.state.clone(),
            })),
            Some(_) => Ok(None),
        }
    }

    fn is_complete(&self, language: &Language, prefix: &[u8]) -> bool {
        self.n_prefix == prefix.len() && language.is_complete(&self.state)
    }

    fn distance(&self, language: &Language, prefix: &[u8]) -> usize {
        prefix.len() - self.n_prefix + language.distance(&self.state)
    }
}

impl Matcher {
    /// A matcher at the start of an output.
    ///
    /// # Errors
    /// `NoToken` if the vocabulary has no token that can begin an output.
    pub fn new(constraint: Constraint, vocabulary: Arc<Vocabulary>) -> Result<Self, GrammarError> {
        let state = constraint.language().start();
        let history = vec![Position { n_prefix: 0, state }];
        let mut matcher = Self {
            constraint,
            vocabulary,
            history,
        };
        let mut mask = TokenMask::new(matcher.vocabulary.n_tokens());
        matcher.mask(&mut mask)?;
        Ok(matcher)
    }

    /// Sets `mask` to the legal next tokens; end tokens are among them exactly when the output is complete.
    ///
    /// # Errors
    /// `MaskSize`, `Limit`, and `NoToken` where the vocabulary lacks a byte that must come.
    pub fn mask(&mut self, mask: &mut TokenMask) -> Result<(), GrammarError> {
        self.check_size(mask)?;
        mask.clear();
        let position = self.position();
        let prefix = self.constraint.prefix();
        let mut language = self.constraint.language();
        if position.n_prefix == prefix.len() {
            language.mask(&position.state, &self.vocabulary, mask)?;
        } else {
            self.vocabulary.all().walk(
                position.clone(),
                |position, byte| position.step(&mut language, prefix, byte),
                |token, _| mask.allow(token),
            )?;
        }
        if position.is_complete(&language, prefix) {
            self.vocabulary
                .end_tokens()
                .iter()
                .for_each(|&end| mask.allow(end));
        }
        if mask.is_empty() {
            Err(GrammarError::NoToken)
        } else {
            Ok(())
        }
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
        let mut language = self.constraint.language();
        let mut position = self.position().clone();
        if self.vocabulary.end_tokens().contains(&token) {
            if !position.is_complete(&language, prefix) {
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
        self.history.push(position);
        Ok(())
    }

    /// Forgets the last `n_tokens` accepted tokens, end tokens among them; at most all of them.
    pub fn rollback(&mut self, n_tokens: usize) {
        let n_kept = self.history.len().saturating_sub(n_tokens).max(1);
        self.history.truncate(n_kept);
    }

    /// Whether the output so far is in the language.
    pub fn is_complete(&self) -> bool {
        self.position()
            .is_complete(&self.constraint.language(), self.constraint.prefix())
    }

    /// Whether it is complete and nothing but an end token can follow.
    pub fn is_finished(&mut self) -> bool {
        let prefix = self.constraint.prefix();
        let mut language = self.constraint.language();
        let position = self.position();
        position.is_complete(&language, prefix)
            && (0..=u8::MAX)
                .all(|byte| matches!(position.step(&mut language, prefix, byte), Ok(None)))
    }

    /// The bytes that must come next whatever the model says: 4,096 at most, none once the output is complete.
    pub fn forced_bytes(&mut self) -> Vec<u8> {
        let prefix = self.constraint.prefix();
        let mut language = self.constraint.language();
        let mut position = self.position().clone();
        let mut forced = Vec::new();
        while forced.len() < MAX_FORCED_BYTES && !position.is_complete(&language, prefix) {
            let mut only = None;
            for byte in 0..=u8::MAX {
                match position.step(&mut language, prefix, byte) {
                    Ok(None) => {}
                    Ok(Some(next)) if only.is_none() => only = Some((byte, next)),
                    Ok(Some(_)) | Err(_) => return forced,
                }
            }
            let Some((byte, next)) = only else { break };
            forced.push(byte);
            position = next;
        }
        forced
    }

    /// Tokens within which the output can be completed, the end token not counted. It is the fewest bytes of a
    /// completion: an upper bound that steering keeps, given a token for every byte, since each such token on the
    /// shortest way lowers it by one.
    pub fn min_tokens_to_accept(&mut self) -> usize {
        self.position()
            .distance(&self.constraint.language(), self.constraint.prefix())
    }

    /// Like [`Matcher::mask`], with only the tokens after which completion needs at most `budget - 1` more.
    ///
    /// # Errors
    /// As `mask`; `Budget` if `budget` is below [`Matcher::min_tokens_to_accept`] and no token helps.
    pub fn mask_toward_end(
        &mut self,
        mask: &mut TokenMask,
        budget: usize,
    ) -> Result<(), GrammarError> {
        self.check_size(mask)?;
        mask.clear();
        let position = self.position();
        let prefix = self.constraint.prefix();
        let mut language = self.constraint.language();
        let mut near: Vec<TokenId> = Vec::new();
        self.vocabulary.all().walk(
            (position.clone(), position.distance(&language, prefix)),
            |(position, _), byte| {
                let next = position.step(&mut language, prefix, byte)?;
                Ok(next.map(|next| {
                    let distance = next.distance(&language, prefix);
                    (next, distance)
                }))
            },
            |token, &(_, distance)| {
                if distance < budget {
                    near.push(token);
                }
            },
        )?;
        near.into_iter().for_each(|token| mask.allow(token));
        if position.is_complete(&language, prefix) {
            self.vocabulary
                .end_tokens()
                .iter()
                .for_each(|&end| mask.allow(end));
        }
        if mask.is_empty() {
            let needed = position.distance(&language, prefix);
            return Err(GrammarError::Budget { needed, budget });
        }
        Ok(())
    }

    fn position(&self) -> &Position {
        self.history
            .last()
            .expect("history holds the start at least")
    }

    fn check_size(&self, mask: &TokenMask) -> Result<(), GrammarError> {
        let (given, expected) = (mask.n_tokens(), self.vocabulary.n_tokens());
        if given == expected {
            Ok(())
        } else {
            Err(GrammarError::MaskSize { given, expected })
        }
    }
}
