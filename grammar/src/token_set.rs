//! Sets of tokens as they are found and remembered: listed while they are few, then a mask.
//!
//! Where a mask is put together from dozens of parts, each of a few tokens, lists spare clearing, copying and
//! joining as many bitsets of the whole vocabulary.

use crate::{TokenId, TokenMask};

/// Tokens of a vocabulary for each that is listed: a list takes half of what a mask takes at most.
const TOKENS_PER_LISTED: usize = 64;

/// Some tokens of a vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct TokenSet {
    n_tokens: usize,
    tokens: Tokens,
}

#[derive(Clone, Debug)]
enum Tokens {
    /// In any order, perhaps more than once.
    Few(Vec<TokenId>),
    Many(TokenMask),
}

impl TokenSet {
    /// None of `n_tokens`.
    pub(crate) fn new(n_tokens: usize) -> Self {
        Self {
            n_tokens,
            tokens: Tokens::Few(Vec::new()),
        }
    }

    /// Tokens of the vocabulary.
    pub(crate) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Allows one token.
    pub(crate) fn allow(&mut self, token: TokenId) {
        match &mut self.tokens {
            Tokens::Few(list) if list.len() < self.n_tokens / TOKENS_PER_LISTED => list.push(token),
            _ => self.many().allow(token),
        }
    }

    /// Allows `n` tokens.
    pub(crate) fn extend(&mut self, n: usize, tokens: impl Iterator<Item = TokenId>) {
        match &mut self.tokens {
            Tokens::Few(list) if list.len() + n <= self.n_tokens / TOKENS_PER_LISTED => {
                list.extend(tokens);
            }
            _ => {
                let mask = self.many();
                tokens.for_each(|token| mask.allow(token));
            }
        }
    }

    /// Allows a token no longer.
    pub(crate) fn forbid(&mut self, token: TokenId) {
        match &mut self.tokens {
            Tokens::Few(list) => list.retain(|&other| other != token),
            Tokens::Many(mask) => mask.forbid(token),
        }
    }

    /// Whether a token is allowed.
    pub(crate) fn is_allowed(&self, token: TokenId) -> bool {
        match &self.tokens {
            Tokens::Few(list) => list.contains(&token),
            Tokens::Many(mask) => mask.is_allowed(token),
        }
    }

    /// Allows what `other`, of the same vocabulary, allows too.
    pub(crate) fn union(&mut self, other: &Self) {
        match (&mut self.tokens, &other.tokens) {
            (_, Tokens::Few(list)) => list.iter().for_each(|&token| self.allow(token)),
            (Tokens::Few(list), Tokens::Many(mask)) => {
                let mut mask = mask.clone();
                mask.allow_all(list);
                self.tokens = Tokens::Many(mask);
            }
            (Tokens::Many(own), Tokens::Many(mask)) => own.union(mask),
        }
    }

    /// Allows them in a mask of the same vocabulary.
    pub(crate) fn add_to(&self, mask: &mut TokenMask) {
        match &self.tokens {
            Tokens::Few(list) => mask.allow_all(list),
            Tokens::Many(own) => mask.union(own),
        }
    }

    /// Makes them all that a mask of the same vocabulary allows.
    pub(crate) fn copy_to(&self, mask: &mut TokenMask) {
        match &self.tokens {
            Tokens::Few(list) => {
                mask.clear();
                mask.allow_all(list);
            }
            Tokens::Many(own) => mask.copy_from(own),
        }
    }

    /// The tokens as a mask, to which many are to be added.
    pub(crate) fn many(&mut self) -> &mut TokenMask {
        if let Tokens::Few(list) = &self.tokens {
            let mut mask = TokenMask::new(self.n_tokens);
            mask.allow_all(list);
            self.tokens = Tokens::Many(mask);
        }
        match &mut self.tokens {
            Tokens::Many(mask) => mask,
            Tokens::Few(_) => unreachable!("a list has just become a mask"),
        }
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        match &self.tokens {
            Tokens::Few(list) => list.capacity() * size_of::<TokenId>(),
            Tokens::Many(mask) => mask.n_bytes(),
        }
    }
}

impl From<TokenMask> for TokenSet {
    fn from(mask: TokenMask) -> Self {
        Self {
            n_tokens: mask.n_tokens(),
            tokens: Tokens::Many(mask),
        }
    }
}
