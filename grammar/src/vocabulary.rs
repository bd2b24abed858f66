//! A vocabulary as byte strings, and the tries that masks are found by walking.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::TokenId;
use crate::closers::Closers;
use crate::fragments::Fragments;
use crate::json::inside::Interior;
use crate::json::machine::ends_value;
use crate::memo::MaskMemo;
use crate::openers::{NumberTokens, Openers};
use crate::regex::fold::folded;
use crate::runs::is_plain;
use crate::trie::TokenTrie;

/// Limit of the masks shared by all constraints.
const COMMON_MASK_BYTES: usize = 8 << 20;

static NEXT_VOCABULARY: AtomicU64 = AtomicU64::new(0);

/// The tokens of a model as bytes, with the tries over them. Immutable; share it in an `Arc`.
#[derive(Debug)]
pub struct Vocabulary {
    tokens: Vec<Option<Box<[u8]>>>,
    end_tokens: Vec<TokenId>,
    all: TokenTrie,
    quoted: TokenTrie,
    /// Of whole characters that stand for themselves, and the others.
    unquoted: [TokenTrie; 2],
    /// The first of these, to patterns that tell no visible characters apart.
    folded: TokenTrie,
    fragments: Fragments,
    closers: Closers,
    openers: Openers,
    numbers: NumberTokens,
    after_values: TokenTrie,
    /// What stands between quotes in a token, and behind any; ascending.
    whole_names: Vec<Box<[u8]>>,
    quoted_parts: Vec<Box<[u8]>>,
    /// Bytes of the longest of `whole_names`.
    longest_name: usize,
    id: u64,
    /// Masks that hold for this vocabulary whatever the constraint.
    common: Mutex<MaskMemo<Interior>>,
}

impl Vocabulary {
    /// Builds the tries. A token that is `None` or empty is special or unused and never legal,
    /// except an end token, which is legal exactly at a complete output; an end token's own bytes
    /// are ignored.
    pub fn new(mut tokens: Vec<Option<Box<[u8]>>>, end_tokens: Vec<TokenId>) -> Self {
        for &end in &end_tokens {
            if let Some(token) = tokens.get_mut(end as usize) {
                *token = None;
            }
        }
        let mut sorted: Vec<(&[u8], TokenId)> = tokens
            .iter()
            .enumerate()
            .filter_map(|(id, bytes)| bytes.as_deref().map(|bytes| (bytes, id as TokenId)))
            .filter(|(bytes, _)| !bytes.is_empty())
            .collect();
        sorted.sort_unstable();
        let (quoted, unquoted): (Vec<_>, Vec<_>) = sorted
            .iter()
            .copied()
            .partition(|(bytes, _)| bytes.contains(&b'"'));
        let (mut whole_names, mut quoted_parts) = (BTreeSet::new(), BTreeSet::new());
        for (bytes, _) in &quoted {
            let parts = bytes.split(|&byte| byte == b'"').skip(1);
            let parts: Vec<Box<[u8]>> = parts.map(Box::from).collect();
            whole_names.extend(parts.iter().take(parts.len() - 1).cloned());
            quoted_parts.extend(parts);
        }
        let all = TokenTrie::new(&sorted);
        let openers = Openers::new(&sorted);
        let tails = openers.each().iter().map(|opener| {
            let n_prefix = opener.prefix.len();
            let bytes = |token: TokenId| tokens[token as usize].as_deref();
            let tail = |&token: &TokenId| Some((&bytes(token)?[n_prefix..], token));
            opener.leaving.tokens().iter().filter_map(tail).collect()
        });
        let closers = Closers::new(&quoted, &tails.collect::<Vec<_>>());
        let numbers = NumberTokens::new(&sorted);
        let after_values = sorted
            .iter()
            .copied()
            .filter(|(bytes, _)| ends_value(bytes[0]));
        let after_values = TokenTrie::new(&after_values.collect::<Vec<_>>());
        let quoted = TokenTrie::new(&quoted);
        let unquoted = unquoted_tries(unquoted, tokens.len());
        let (folded, fragments) = plain_tokens(&unquoted[0], &tokens);
        let id = NEXT_VOCABULARY.fetch_add(1, Ordering::Relaxed);
        Self {
            tokens,
            end_tokens,
            all,
            quoted,
            unquoted,
            folded,
            fragments,
            closers,
            openers,
            numbers,
            after_values,
            longest_name: whole_names.iter().map(|name| name.len()).max().unwrap_or(0),
            whole_names: whole_names.into_iter().collect(),
            quoted_parts: quoted_parts.into_iter().collect(),
            id,
            common: Mutex::new(MaskMemo::new(COMMON_MASK_BYTES)),
        }
    }

    /// Tokens of the vocabulary, special ones included: the size of its masks.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens that end an output.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// The bytes of a token; `None` for a special, unused or end token and for an id beyond the
    /// vocabulary.
    pub fn bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.tokens
            .get(token as usize)?
            .as_deref()
            .filter(|bytes| !bytes.is_empty())
    }

    /// `text` cut into tokens from its start, each the longest that fits; none if a byte has no token.
    pub fn cut(&self, mut text: &[u8]) -> Option<Vec<TokenId>> {
        let mut tokens = Vec::new();
        while !text.is_empty() {
            let (token, n_bytes) = self.all.longest_match(text)?;
            tokens.push(token);
            text = &text[n_bytes..];
        }
        Some(tokens)
    }

    /// Some tokens with bytes.
    pub(crate) fn trie_of(&self, tokens: &[TokenId]) -> TokenTrie {
        let bytes = |&token: &TokenId| Some((self.bytes(token)?, token));
        let mut sorted: Vec<_> = tokens.iter().filter_map(bytes).collect();
        sorted.sort_unstable();
        TokenTrie::bare(&sorted)
    }

    /// Every token with bytes.
    pub(crate) fn all(&self) -> &TokenTrie {
        &self.all
    }

    /// The tokens with a `"`: the only ones that can leave a JSON string.
    pub(crate) fn quoted(&self) -> &TokenTrie {
        &self.quoted
    }

    /// The tokens with a `"`, cut at it.
    pub(crate) fn closers(&self) -> &Closers {
        &self.closers
    }

    /// The tokens that may follow within a number.
    pub(crate) fn numbers(&self) -> &NumberTokens {
        &self.numbers
    }

    /// The tokens that begin with what may follow a value.
    pub(crate) fn after_values(&self) -> &TokenTrie {
        &self.after_values
    }

    /// Every token with bytes, those that open a string or a number cut behind its opening.
    pub(crate) fn openers(&self) -> &Openers {
        &self.openers
    }

    /// The tokens without a `"`: those of whole characters that stand for themselves, then the others. Most
    /// strings take the former whole or by the rules of [`crate::runs`], so that few of their nodes are
    /// met; the latter are few.
    pub(crate) fn unquoted(&self) -> &[TokenTrie; 2] {
        &self.unquoted
    }

    /// The first of these, each visible character as one that stands for all.
    pub(crate) fn folded(&self) -> &TokenTrie {
        &self.folded
    }

    /// The tokens of whole characters that stand for themselves which hold a text of three bytes at least, perhaps some of
    /// them more than once.
    pub(crate) fn holding(&self, text: &[u8]) -> Vec<TokenId> {
        let holds = |&token: &TokenId| {
            let bytes = self.bytes(token).unwrap_or_default();
            bytes.windows(text.len()).any(|place| place == text)
        };
        let candidates = self.fragments.candidates(text).iter();
        candidates.copied().filter(holds).collect()
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.all.max_depth()
    }

    /// Whether some token holds one of `names` within quotes.
    pub(crate) fn holds_name(&self, names: &[Arc<[u8]>]) -> bool {
        let whole = &self.whole_names;
        let mut short = names.iter().filter(|name| name.len() <= self.longest_name);
        short.any(|name| whole.binary_search_by(|other| (**other).cmp(name)).is_ok())
    }

    /// Whether some token holds one of `names` behind a quote.
    pub(crate) fn begins_name(&self, names: &[Arc<[u8]>]) -> bool {
        names.iter().any(|name| {
            let first = self.quoted_parts.partition_point(|part| **part < **name);
            let first = self.quoted_parts.get(first);
            first.is_some_and(|part| part.starts_with(name))
        })
    }

    /// Masks of strings without a pattern, shared by all constraints.
    pub(crate) fn common(&self) -> MutexGuard<'_, MaskMemo<Interior>> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells vocabularies apart in memos.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// The tokens of a trie with their visible characters folded, and by their fragments.
fn plain_tokens(trie: &TokenTrie, tokens: &[Option<Box<[u8]>>]) -> (TokenTrie, Fragments) {
    let bytes = |&token: &TokenId| Some((tokens[token as usize].as_deref()?, token));
    let plain: Vec<(&[u8], TokenId)> = trie.tokens().iter().filter_map(bytes).collect();
    let fold = |&(bytes, token): &(&[u8], TokenId)| (folded(bytes), token);
    let mut sorted: Vec<(Vec<u8>, TokenId)> = plain.iter().map(fold).collect();
    sorted.sort_unstable();
    let sorted: Vec<(&[u8], TokenId)> = sorted
        .iter()
        .map(|(bytes, token)| (&**bytes, *token))
        .collect();
    let folded = TokenTrie::new(&sorted);
    folded.all(tokens.len());
    (folded, Fragments::new(&plain))
}

/// Of tokens without a `"`, sorted by bytes, of a vocabulary of `n_tokens`.
fn unquoted_tries(tokens: Vec<(&[u8], TokenId)>, n_tokens: usize) -> [TokenTrie; 2] {
    let (plain, odd): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| is_plain(token.0));
    let tries = [plain, odd].map(|sorted| TokenTrie::new(&sorted));
    // Most strings take nearly all of these: then the first mask is not to find that out.
    tries.iter().for_each(|trie| {
        trie.all(n_tokens);
    });
    tries
}
