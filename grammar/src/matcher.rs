//! Follows one output through a constraint.

use std::sync::Arc;

use crate::{Constraint, GrammarError, TokenId, TokenMask, Vocabulary};

/// One output in the making.
#[derive(Clone, Debug)]
pub struct Matcher {
    vocabulary: Arc<Vocabulary>,
}

impl Matcher {
    /// A matcher at the start of an output.
    pub fn new(constraint: Constraint, vocabulary: Arc<Vocabulary>) -> Result<Self, GrammarError> {
        drop(constraint);
        Ok(Self { vocabulary })
    }

    /// Sets `mask` to the legal next tokens.
    pub fn mask(&mut self, mask: &mut TokenMask) -> Result<(), GrammarError> {
        mask.clear();
        self.vocabulary
            .end_tokens()
            .iter()
            .for_each(|&end| mask.allow(end));
        Ok(())
    }

    /// Takes the next token.
    pub fn accept(&mut self, token: TokenId) -> Result<(), GrammarError> {
        Err(GrammarError::IllegalToken {
            token,
            n_accepted: 0,
        })
    }

    /// Forgets the last `n_tokens` accepted tokens.
    pub fn rollback(&mut self, n_tokens: usize) {
        let _ = n_tokens;
    }

    /// Whether the output so far is in the language.
    pub fn is_complete(&self) -> bool {
        true
    }

    /// Whether it is complete and nothing but an end token can follow.
    pub fn is_finished(&mut self) -> bool {
        true
    }

    /// Bytes that must come next.
    pub fn forced_bytes(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// Tokens within which the output can surely be completed.
    pub fn min_tokens_to_accept(&mut self) -> usize {
        0
    }

    /// Like [`Matcher::mask`], only tokens after which completion needs at most `budget - 1` more.
    pub fn mask_toward_end(
        &mut self,
        mask: &mut TokenMask,
        budget: usize,
    ) -> Result<(), GrammarError> {
        let _ = budget;
        self.mask(mask)
    }
}
