//! The tokens that leave a JSON string, cut in two at the quote: the first that no backslash is before.
//!
//! What comes before the quote (the head) is the string's matter, what comes after it (the rest) is
//! that of the values around; a hundred thousand tokens have some two hundred heads and six hundred
//! rests. So a mask need not try their combinations: it asks the heads whether they lead to where
//! the string may close, then what may follow, once for each way of closing.

use std::collections::BTreeMap;

use crate::TokenId;
use crate::json::text::{BOUNDARY, Text};
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
    whole: Cut,
    tails: Vec<Cut>,
    /// Heads that are whole characters of a string, and of a name in its one spelling.
    of_texts: Vec<u32>,
    of_names: Vec<u32>,
    /// Tokens whose quotes all have a backslash before them.
    escaped: TokenTrie,
}

/// Tokens that are cut in two.
#[derive(Debug)]
pub(crate) struct Cut {
    /// By their heads, each behind its rest. [n_heads]
    by_head: Vec<Vec<(u32, TokenId)>>,
    /// By their rests, each behind its head. [n_rests]
    by_rest: Vec<Vec<(u32, TokenId)>>,
}

impl Cut {
    /// The tokens of a head, each behind its rest.
    pub(crate) fn tokens(&self, head: u32) -> &[(u32, TokenId)] {
        &self.by_head[head as usize]
    }

    /// The tokens of a rest, each behind its head.
    pub(crate) fn ending(&self, rest: u32) -> &[(u32, TokenId)] {
        &self.by_rest[rest as usize]
    }
}

/// What is before a token's closing quote, and after it.
type Halves<'t> = (&'t [u8], &'t [u8], TokenId);

fn halves<'t>(&(bytes, token): &(&'t [u8], TokenId)) -> Option<Halves<'t>> {
    let quote = closing_quote(bytes)?;
    Some((&bytes[..quote], &bytes[quote + 1..], token))
}

impl Closers {
    /// Of tokens with quotes, sorted by bytes, and of lists of tails of tokens that open a string before;
    /// none is to follow a backslash.
    pub(crate) fn new(quoted: &[(&[u8], TokenId)], tails: &[Vec<(&[u8], TokenId)>]) -> Self {
        let escaped = quoted.iter().filter(|token| halves(token).is_none());
        let escaped: Vec<_> = escaped.copied().collect();
        let all = || {
            quoted
                .iter()
                .chain(tails.iter().flatten())
                .filter_map(halves)
        };
        let index = |parts: &mut dyn Iterator<Item = &'_ [u8]>| {
            let mut known: BTreeMap<Vec<u8>, u32> = BTreeMap::from([(Vec::new(), 0)]);
            known.extend(parts.map(|part| (part.to_vec(), 0)));
            known.values_mut().zip(0..).for_each(|(idx, n)| *idx = n);
            known
        };
        let heads = index(&mut all().map(|halves| halves.0));
        let rests = index(&mut all().map(|halves| halves.1));
        let trie = |known: &BTreeMap<Vec<u8>, u32>| {
            let parts = known.iter().skip(1);
            TokenTrie::new(
                &parts
                    .map(|(part, &idx)| (part.as_slice(), idx))
                    .collect::<Vec<_>>(),
            )
        };
        let cut = |list: &[(&[u8], TokenId)]| {
            let mut by_head = vec![Vec::new(); heads.len()];
            let mut by_rest = vec![Vec::new(); rests.len()];
            for (head, rest, token) in list.iter().filter_map(halves) {
                let (head, rest) = (heads[head], rests[rest]);
                by_head[head as usize].push((rest, token));
                by_rest[rest as usize].push((head, token));
            }
            Cut { by_head, by_rest }
        };
        let whole = |step: fn(Text, u8) -> Option<Text>| {
            let is_whole = |head: &[u8]| {
                let end = head
                    .iter()
                    .try_fold(BOUNDARY, |text, &byte| step(text, byte));
                end == Some(BOUNDARY)
            };
            let whole = heads.iter().filter(|(head, _)| is_whole(head));
            whole.map(|(_, &idx)| idx).collect()
        };
        Self {
            whole: cut(quoted),
            tails: tails.iter().map(|list| cut(list)).collect(),
            of_texts: whole(Text::step),
            of_names: whole(Text::step_canonical),
            heads: trie(&heads),
            rests: trie(&rests),
            n_rests: rests.len(),
            head_bytes: heads.into_keys().map(Vec::into).collect(),
            escaped: TokenTrie::new(&escaped),
        }
    }

    /// The heads, as tokens, but for the empty one.
    pub(crate) fn heads(&self) -> &TokenTrie {
        &self.heads
    }

    /// The heads that are whole characters of a string, the empty one among them.
    pub(crate) fn of_texts(&self) -> &[u32] {
        &self.of_texts
    }

    /// The same of a name that is spelled in the one way.
    pub(crate) fn of_names(&self) -> &[u32] {
        &self.of_names
    }

    /// The bytes of a head.
    pub(crate) fn head_bytes(&self, head: u32) -> &[u8] {
        &self.head_bytes[head as usize]
    }

    pub(crate) fn n_heads(&self) -> usize {
        self.head_bytes.len()
    }

    /// The rests, as tokens, but for the empty one.
    pub(crate) fn rests(&self) -> &TokenTrie {
        &self.rests
    }

    pub(crate) fn n_rests(&self) -> usize {
        self.n_rests
    }

    /// The tokens that close a string that is open.
    pub(crate) fn whole(&self) -> &Cut {
        &self.whole
    }

    /// Those of each list of tails.
    pub(crate) fn tails(&self) -> &[Cut] {
        &self.tails
    }

    /// Tokens that stay in the string, though they have quotes.
    pub(crate) fn escaped(&self) -> &TokenTrie {
        &self.escaped
    }
}

/// The first quote without a backslash that makes it one of the text.
pub(crate) fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    bytes.iter().position(|&byte| {
        let closes = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        closes
    })
}
