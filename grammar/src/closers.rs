//! The tokens that leave a JSON string, cut in two at the quote.
//!
//! What comes before the quote (the head) is the string's matter, what comes after it (the rest) is
//! that of the values around; a hundred thousand tokens have some two hundred heads and six hundred
//! rests. So a mask need not try their combinations: it asks the heads whether they lead to where
//! the string may close, then what may follow, once for each way of closing.

use std::collections::BTreeMap;

use crate::TokenId;
use crate::trie::TokenTrie;

/// Heads and rests by index, in the order of their bytes: the empty one, which each list has, is 0.
#[derive(Debug)]
pub(crate) struct Closers {
    /// Their tokens are the heads' indices.
    heads: TokenTrie,
    /// Their tokens are the rests' indices.
    rests: TokenTrie,
    n_rests: usize,
    head_bytes: Vec<Box<[u8]>>,
    /// The tokens of each head, with their rests. [n_heads]
    tokens: Vec<Vec<(u32, TokenId)>>,
    /// Tokens with a backslash before the quote, which then may be of the string.
    escaped: TokenTrie,
}

impl Closers {
    /// Of tokens with quotes, sorted by bytes.
    pub(crate) fn new(quoted: &[(&[u8], TokenId)]) -> Self {
        let mut escaped = Vec::new();
        let mut cuts = Vec::new();
        for &(bytes, token) in quoted {
            let quote = bytes.iter().position(|&byte| byte == b'"');
            let quote = quote.expect("each of the tokens has a quote");
            if bytes[..quote].contains(&b'\\') {
                escaped.push((bytes, token));
            } else {
                cuts.push((&bytes[..quote], &bytes[quote + 1..], token));
            }
        }
        let index = |parts: &mut dyn Iterator<Item = &'_ [u8]>| {
            let mut known: BTreeMap<Vec<u8>, u32> = BTreeMap::from([(Vec::new(), 0)]);
            known.extend(parts.map(|part| (part.to_vec(), 0)));
            known.values_mut().zip(0..).for_each(|(idx, n)| *idx = n);
            known
        };
        let heads = index(&mut cuts.iter().map(|cut| cut.0));
        let rests = index(&mut cuts.iter().map(|cut| cut.1));
        let trie = |known: &BTreeMap<Vec<u8>, u32>| {
            let parts = known.iter().skip(1);
            TokenTrie::new(
                &parts
                    .map(|(part, &idx)| (part.as_slice(), idx))
                    .collect::<Vec<_>>(),
            )
        };
        let mut tokens = vec![Vec::new(); heads.len()];
        for (head, rest, token) in cuts {
            tokens[heads[head] as usize].push((rests[rest], token));
        }
        Self {
            heads: trie(&heads),
            rests: trie(&rests),
            n_rests: rests.len(),
            head_bytes: heads.into_keys().map(Vec::into).collect(),
            tokens,
            escaped: TokenTrie::new(&escaped),
        }
    }

    /// The heads, as tokens, but for the empty one.
    pub(crate) fn heads(&self) -> &TokenTrie {
        &self.heads
    }

    /// The bytes of a head.
    pub(crate) fn head_bytes(&self, head: u32) -> &[u8] {
        &self.head_bytes[head as usize]
    }

    /// The rests, as tokens, but for the empty one.
    pub(crate) fn rests(&self) -> &TokenTrie {
        &self.rests
    }

    pub(crate) fn n_rests(&self) -> usize {
        self.n_rests
    }

    /// The tokens of a head, each behind its rest.
    pub(crate) fn tokens(&self, head: u32) -> &[(u32, TokenId)] {
        &self.tokens[head as usize]
    }

    /// Tokens that cannot be cut: a backslash is before their quote.
    pub(crate) fn escaped(&self) -> &TokenTrie {
        &self.escaped
    }
}
