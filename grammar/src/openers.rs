//! Tokens that open a string, and those that open a number and stay in it, cut in two after what opens it;
//! and those that may follow within a number.
//!
//! What comes up to the quote or the first digit (the prefix) is the matter of the values around,
//! what comes after it (the tail) that of the new value alone. A hundred thousand tokens have some
//! hundreds that begin with a quote and a thousand numbers, but a few dozen such prefixes: so a mask asks
//! the whole parser only where these lead, and the tails of the value they lead to.

use std::collections::BTreeMap;

use crate::TokenId;
use crate::closers::closing_quote;
use crate::json::machine::ends_value;
use crate::trie::TokenTrie;

/// Tokens of a prefix from which on it is worth having.
const MIN_TAILS: usize = 8;

/// Tokens by their prefixes, and the others.
#[derive(Debug)]
pub(crate) struct Openers {
    prefixes: Vec<Opener>,
    others: TokenTrie,
}

/// The tokens of a prefix, by the tail that follows it, which is never empty.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) prefix: Box<[u8]>,
    /// Tails that stay in the string or number.
    pub(crate) staying: TokenTrie,
    /// Tails that leave the string.
    pub(crate) leaving: TokenTrie,
}

impl Openers {
    /// Of tokens sorted by bytes.
    pub(crate) fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        let mut by_prefix: BTreeMap<&[u8], Vec<(&[u8], TokenId)>> = BTreeMap::new();
        for &(bytes, token) in sorted {
            if let Some((prefix, tail)) = opening(bytes) {
                by_prefix.entry(prefix).or_default().push((tail, token));
            }
        }
        by_prefix.retain(|_, tails| tails.len() >= MIN_TAILS);
        let is_other = |bytes| !opening(bytes).is_some_and(|cut| by_prefix.contains_key(cut.0));
        let others: Vec<_> = sorted.iter().copied().filter(|t| is_other(t.0)).collect();
        let opener = |(prefix, tails): (&[u8], Vec<(&[u8], TokenId)>)| {
            let leaves = |tail: &(&[u8], TokenId)| closing_quote(tail.0).is_some();
            let (leaving, staying): (Vec<_>, Vec<_>) = tails.into_iter().partition(leaves);
            Opener {
                prefix: prefix.into(),
                staying: TokenTrie::new(&staying),
                leaving: TokenTrie::new(&leaving),
            }
        };
        Self {
            others: TokenTrie::new(&others),
            prefixes: by_prefix.into_iter().map(opener).collect(),
        }
    }

    /// The prefixes, with their tokens.
    pub(crate) fn each(&self) -> &[Opener] {
        &self.prefixes
    }

    /// The tokens without such a prefix.
    pub(crate) fn others(&self) -> &TokenTrie {
        &self.others
    }
}

/// A token cut behind its first quote, or behind its first digit if only a number's characters follow.
/// Something must.
fn opening(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = |is: fn(&u8) -> bool| bytes.iter().position(is);
    let (prefix, tail) = match first(|&byte| byte == b'"') {
        Some(quote) => bytes.split_at(quote + 1),
        None => bytes.split_at(first(u8::is_ascii_digit)? + 1),
    };
    let is_cut = prefix.ends_with(b"\"") || tail.iter().copied().all(is_of_number);
    (is_cut && !tail.is_empty()).then_some((prefix, tail))
}

/// Tokens that may follow within a number: digits alone, others of its characters, and those that first go
/// on with some of these and then leave it.
#[derive(Debug)]
pub(crate) struct NumberTokens {
    digits: TokenTrie,
    others: TokenTrie,
    leaving: TokenTrie,
}

impl NumberTokens {
    /// Of tokens sorted by bytes.
    pub(crate) fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        let (mut digits, mut others, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        for &(bytes, token) in sorted {
            match bytes.iter().position(|&byte| !is_of_number(byte)) {
                None if bytes.iter().all(u8::is_ascii_digit) => digits.push((bytes, token)),
                None => others.push((bytes, token)),
                Some(end) if end > 0 && ends_value(bytes[end]) => leaving.push((bytes, token)),
                Some(_) => {}
            }
        }
        Self {
            digits: TokenTrie::new(&digits),
            others: TokenTrie::new(&others),
            leaving: TokenTrie::new(&leaving),
        }
    }

    /// Those that consist of a number's characters: of digits alone, and the others.
    pub(crate) fn whole(&self) -> [&TokenTrie; 2] {
        [&self.digits, &self.others]
    }

    /// Those that go on with a number, and then with what may come after it.
    pub(crate) fn leaving(&self) -> &TokenTrie {
        &self.leaving
    }
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}
