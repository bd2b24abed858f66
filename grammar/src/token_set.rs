//! Sets of tokens as they are found and remembered: listed while they are few, then a mask, or one that
//! others share but for a few tokens.
//!
//! Where a mask is put together from dozens of parts, each of a few tokens, lists spare clearing, copying and
//! joining as many bitsets of the whole vocabulary; so does a mask that many parts have in common.

use std::sync::Arc;

use crate::{TokenId, TokenMask};

/// Tokens of a vocabulary for each that is listed: a list takes half of what a mask takes at most.
const TOKENS_PER_LISTED: usize = 64;

/// The same for each by which a set may differ from a mask that it shares: what is remembered is copied often, and
/// then a change costs as much as ten tokens of the mask.
const TOKENS_PER_CHANGE: usize = 512;

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
    Near(Near),
}

/// The tokens of a mask that is shared, but for a few.
#[derive(Clone, Debug)]
struct Near {
    mask: Arc<TokenMask>,
    /// Tokens with whether they are of the set: of a token that comes more than once the last one holds.
    changes: Vec<(TokenId, bool)>,
}

impl Near {
    fn add_to(&self, mask: &mut TokenMask) {
        let changes = self.changes.iter();
        let before = changes.map(|&(token, _)| mask.is_allowed(token));
        let before: Vec<bool> = before.collect();
        mask.union(&self.mask);
        for (&(token, is_allowed), was_allowed) in self.changes.iter().zip(before) {
            mask.set(token, is_allowed || was_allowed);
        }
    }

    fn copy_to(&self, mask: &mut TokenMask) {
        mask.copy_from(&self.mask);
        let changes = self.changes.iter();
        changes.for_each(|&(token, is_allowed)| mask.set(token, is_allowed));
    }
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

    /// How many tokens are listed at most.
    fn max_listed(&self) -> usize {
        self.n_tokens / TOKENS_PER_LISTED
    }

    /// In how many tokens it may differ from a mask that is shared.
    fn max_changes(&self) -> usize {
        self.n_tokens / TOKENS_PER_CHANGE
    }

    /// Allows one token.
    pub(crate) fn allow(&mut self, token: TokenId) {
        self.extend(1, std::iter::once(token));
    }

    /// Allows `n` tokens.
    pub(crate) fn extend(&mut self, n: usize, tokens: impl Iterator<Item = TokenId>) {
        let (max_listed, max_changes) = (self.max_listed(), self.max_changes());
        match &mut self.tokens {
            Tokens::Few(list) if list.len() + n <= max_listed => list.extend(tokens),
            Tokens::Near(near) if near.changes.len() + n <= max_changes => {
                near.changes.extend(tokens.map(|token| (token, true)));
            }
            _ => {
                let mask = self.many();
                tokens.for_each(|token| mask.allow(token));
            }
        }
    }

    /// Allows a token no longer.
    pub(crate) fn forbid(&mut self, token: TokenId) {
        let max_changes = self.max_changes();
        match &mut self.tokens {
            Tokens::Few(list) => list.retain(|&other| other != token),
            Tokens::Near(near) if near.changes.len() < max_changes => {
                near.changes.push((token, false));
            }
            _ => self.many().forbid(token),
        }
    }

    /// The tokens, in any order, perhaps more than once.
    pub(crate) fn to_list(&self) -> Vec<TokenId> {
        match &self.tokens {
            Tokens::Few(list) => list.clone(),
            Tokens::Many(mask) => mask.iter().collect(),
            Tokens::Near(near) => {
                let mut mask = TokenMask::new(self.n_tokens);
                near.copy_to(&mut mask);
                mask.iter().collect()
            }
        }
    }

    /// Allows what `other`, of the same vocabulary, allows too.
    pub(crate) fn union(&mut self, other: &Self) {
        match (&mut self.tokens, &other.tokens) {
            (_, Tokens::Few(list)) => self.extend(list.len(), list.iter().copied()),
            (Tokens::Few(list), _) => {
                let list = std::mem::take(list);
                self.tokens = other.tokens.clone();
                self.extend(list.len(), list.into_iter());
            }
            _ => other.add_to(self.many()),
        }
    }

    /// Allows them in a mask of the same vocabulary.
    pub(crate) fn add_to(&self, mask: &mut TokenMask) {
        match &self.tokens {
            Tokens::Few(list) => mask.allow_all(list),
            Tokens::Many(own) => mask.union(own),
            Tokens::Near(near) => near.add_to(mask),
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
            Tokens::Near(near) => near.copy_to(mask),
        }
    }

    /// The tokens as a mask of their own, to which many are to be added.
    pub(crate) fn many(&mut self) -> &mut TokenMask {
        if !matches!(self.tokens, Tokens::Many(_)) {
            let mut mask = TokenMask::new(self.n_tokens);
            self.add_to(&mut mask);
            self.tokens = Tokens::Many(mask);
        }
        match &mut self.tokens {
            Tokens::Many(mask) => mask,
            _ => unreachable!("the tokens have just become a mask"),
        }
    }

    /// Before it is remembered: the mask of many tokens becomes one that others may share.
    pub(crate) fn share(&mut self) {
        if let Tokens::Many(mask) = &mut self.tokens {
            self.tokens = Tokens::Near(Near {
                mask: Arc::new(std::mem::replace(mask, TokenMask::new(0))),
                changes: Vec::new(),
            });
        }
    }

    /// Heap bytes, as if nothing were shared.
    pub(crate) fn n_bytes(&self) -> usize {
        match &self.tokens {
            Tokens::Few(list) => list.capacity() * size_of::<TokenId>(),
            Tokens::Many(mask) => mask.n_bytes(),
            Tokens::Near(near) => {
                near.mask.n_bytes() + near.changes.capacity() * size_of::<(TokenId, bool)>()
            }
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
