//! A vocabulary as byte strings, and the tries that masks are found by walking.
//!
//! A trie's nodes lie in preorder in flat arrays; `subtree_end` skips a node's descendants, so a
//! walk is one loop over ascending indices with a stack of automaton states, one for each depth.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::TokenId;
use crate::json::masks::Interior;
use crate::json::members::{EMPTY_NAME, name_hash};
use crate::memo::MaskMemo;

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
    unquoted: TokenTrie,
    /// Hashes of what stands between quotes in a token.
    whole_names: Vec<u64>,
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
        let names = quoted.iter().flat_map(|(bytes, _)| {
            let parts: Vec<&[u8]> = bytes.split(|&byte| byte == b'"').collect();
            let n_parts = parts.len();
            parts.into_iter().take(n_parts - 1).skip(1)
        });
        let hashed = |name: &[u8]| {
            name.iter()
                .fold(EMPTY_NAME, |hash, &byte| name_hash(hash, byte))
        };
        let mut whole_names: Vec<u64> = names.map(hashed).collect();
        whole_names.sort_unstable();
        whole_names.dedup();
        let all = TokenTrie::new(&sorted);
        let quoted = TokenTrie::new(&quoted);
        let unquoted = TokenTrie::new(&unquoted);
        let id = NEXT_VOCABULARY.fetch_add(1, Ordering::Relaxed);
        Self {
            tokens,
            end_tokens,
            all,
            quoted,
            unquoted,
            whole_names,
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

    /// Every token with bytes.
    pub(crate) fn all(&self) -> &TokenTrie {
        &self.all
    }

    /// The tokens with a `"`: the only ones that can leave a JSON string.
    pub(crate) fn quoted(&self) -> &TokenTrie {
        &self.quoted
    }

    /// The tokens without a `"`.
    pub(crate) fn unquoted(&self) -> &TokenTrie {
        &self.unquoted
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.all.max_depth()
    }

    /// Whether some token ends the name that stands at `hash` as one of `names`, which are hashes
    /// in ascending order. It may say so wrongly of a name with escapes.
    pub(crate) fn ends_name(&self, hash: u64, names: &[u64]) -> bool {
        let mut found = false;
        let walked: Result<(), Infallible> = self.quoted.walk(
            &mut found,
            hash,
            |found, &hash, byte| {
                if byte == b'"' {
                    *found |= names.binary_search(&hash).is_ok();
                }
                Ok((byte != b'"' && !*found).then(|| name_hash(hash, byte)))
            },
            |_, _, _| {},
        );
        let Ok(()) = walked;
        found
    }

    /// Whether some token holds one of `names`, within quotes.
    pub(crate) fn holds_name(&self, names: &[u64]) -> bool {
        let is_used = |hash| names.binary_search(hash).is_ok();
        self.whole_names.iter().any(is_used)
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

/// Byte strings with their tokens, as a trie in preorder without its root.
#[derive(Debug)]
pub(crate) struct TokenTrie {
    /// The byte on the edge into each node. [n_nodes]
    bytes: Vec<u8>,
    /// Length of the node's string less one. [n_nodes]
    depths: Vec<u32>,
    /// Index after the node's last descendant. [n_nodes]
    subtree_ends: Vec<u32>,
    /// Where the node's tokens begin in `tokens`. [n_nodes + 1]
    token_starts: Vec<u32>,
    tokens: Vec<TokenId>,
    max_depth: usize,
}

impl TokenTrie {
    /// From pairs sorted by bytes; equal byte strings share a node.
    fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        let mut trie = Self {
            bytes: Vec::new(),
            depths: Vec::new(),
            subtree_ends: Vec::new(),
            token_starts: Vec::new(),
            tokens: Vec::new(),
            max_depth: 0,
        };
        let mut path: Vec<usize> = Vec::new();
        let mut previous: &[u8] = &[];
        for &(bytes, token) in sorted {
            let n_shared = bytes
                .iter()
                .zip(previous)
                .take_while(|(a, b)| a == b)
                .count();
            trie.close(&mut path, n_shared);
            for (depth, &byte) in bytes.iter().enumerate().skip(n_shared) {
                path.push(trie.bytes.len());
                trie.bytes.push(byte);
                trie.depths.push(depth as u32);
                trie.subtree_ends.push(0);
                trie.token_starts.push(trie.tokens.len() as u32);
            }
            trie.tokens.push(token);
            trie.max_depth = trie.max_depth.max(bytes.len());
            previous = bytes;
        }
        trie.close(&mut path, 0);
        trie.token_starts.push(trie.tokens.len() as u32);
        trie
    }

    fn close(&mut self, path: &mut Vec<usize>, n_kept: usize) {
        let end = self.bytes.len() as u32;
        for node in path.drain(n_kept..) {
            self.subtree_ends[node] = end;
        }
    }

    /// Calls `found` for each token that `step` follows to its end from `start`, with the state
    /// reached there. `step` returns `None` where the automaton dies; `context` is what both work
    /// on.
    pub(crate) fn walk<C, S, E>(
        &self,
        context: &mut C,
        start: S,
        mut step: impl FnMut(&mut C, &S, u8) -> Result<Option<S>, E>,
        mut found: impl FnMut(&mut C, TokenId, &S),
    ) -> Result<(), E> {
        let mut states: Vec<S> = Vec::with_capacity(self.max_depth + 1);
        states.push(start);
        let mut node = 0;
        while node < self.bytes.len() {
            let depth = self.depths[node] as usize;
            states.truncate(depth + 1);
            let Some(state) = step(context, &states[depth], self.bytes[node])? else {
                node = self.subtree_ends[node] as usize;
                continue;
            };
            for &token in self.tokens_at(node) {
                found(context, token, &state);
            }
            states.push(state);
            node += 1;
        }
        Ok(())
    }

    /// The longest token that `text` begins with, and its length.
    pub(crate) fn longest_match(&self, text: &[u8]) -> Option<(TokenId, usize)> {
        let mut longest = None;
        let (mut node, mut end) = (0, self.bytes.len());
        for (depth, &byte) in text.iter().enumerate() {
            while node < end && self.bytes[node] != byte {
                node = self.subtree_ends[node] as usize;
            }
            if node >= end {
                break;
            }
            longest = self
                .tokens_at(node)
                .first()
                .map(|&token| (token, depth + 1))
                .or(longest);
            (node, end) = (node + 1, self.subtree_ends[node] as usize);
        }
        longest
    }

    fn tokens_at(&self, node: usize) -> &[TokenId] {
        &self.tokens[self.token_starts[node] as usize..self.token_starts[node + 1] as usize]
    }

    /// Bytes of the longest token.
    pub(crate) fn max_depth(&self) -> usize {
        self.max_depth
    }
}
