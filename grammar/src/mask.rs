//! A set of tokens as a bitset: one bit a token, 64 tokens a word, low bit first.

use crate::TokenId;

const WORD_BITS: usize = u64::BITS as usize;

/// The tokens that may come next. Ids at or above the size are never allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u64>,
    n_tokens: usize,
}

impl TokenMask {
    /// A mask over `n_tokens` tokens that allows none of them.
    pub fn new(n_tokens: usize) -> Self {
        Self {
            words: vec![0; n_tokens.div_ceil(WORD_BITS)],
            n_tokens,
        }
    }

    /// The number of tokens the mask speaks of, allowed or not.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Allows one token; an id beyond the vocabulary is ignored.
    pub fn allow(&mut self, token: TokenId) {
        let token = token as usize;
        if token < self.n_tokens {
            self.words[token / WORD_BITS] |= 1 << (token % WORD_BITS);
        }
    }

    /// Allows each of some tokens.
    pub(crate) fn allow_all(&mut self, tokens: &[TokenId]) {
        tokens.iter().for_each(|&token| self.allow(token));
    }

    /// Allows a token no longer.
    pub fn forbid(&mut self, token: TokenId) {
        let token = token as usize;
        if token < self.n_tokens {
            self.words[token / WORD_BITS] &= !(1 << (token % WORD_BITS));
        }
    }

    /// Allows a token, or does so no longer.
    pub(crate) fn set(&mut self, token: TokenId, is_allowed: bool) {
        match is_allowed {
            true => self.allow(token),
            false => self.forbid(token),
        }
    }

    /// Whether a token is allowed.
    pub fn is_allowed(&self, token: TokenId) -> bool {
        let token = token as usize;
        token < self.n_tokens && self.words[token / WORD_BITS] >> (token % WORD_BITS) & 1 == 1
    }

    /// Allows no token.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// How many tokens are allowed.
    pub fn n_allowed(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether no token is allowed.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The allowed token when there is exactly one.
    pub fn single(&self) -> Option<TokenId> {
        let mut allowed = self.iter();
        let first = allowed.next()?;
        allowed.next().is_none().then_some(first)
    }

    /// The allowed tokens in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.words.iter().enumerate().flat_map(|(word_idx, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some((word_idx * WORD_BITS + bit) as TokenId)
            })
        })
    }

    /// The bits: token `t` is bit `t % 64` of word `t / 64`; bits past the last token are zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Allows what `other`, a mask of the same size, allows, and nothing else.
    pub(crate) fn copy_from(&mut self, other: &TokenMask) {
        debug_assert_eq!(self.n_tokens, other.n_tokens);
        self.words.copy_from_slice(&other.words);
    }

    /// Allows what `other`, a mask of the same size, allows too.
    pub(crate) fn union(&mut self, other: &TokenMask) {
        debug_assert_eq!(self.n_tokens, other.n_tokens);
        for (word, other_word) in self.words.iter_mut().zip(&other.words) {
            *word |= other_word;
        }
    }

    /// Heap bytes held, for the memo's limit.
    pub(crate) fn n_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }
}
