//! Tokens as a trie of their bytes, which masks are found by walking.
//!
//! The nodes lie in preorder in flat arrays; `subtree_end` skips a node's descendants, so a walk is
//! one loop over ascending indices with a stack of automaton states, one for each depth.

use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

use crate::runs::{BROKEN, Groups, Run, group, measure};
use crate::{TokenId, TokenMask};

/// Nodes of a subtree from which on it is worth asking for a run.
const MIN_SKIPPED: usize = 16;
/// Masks of runs remembered at a time.
const MAX_TAKEN: usize = 512;

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
    /// The groups of characters of what stands from each node's byte on in its subtree, and the most
    /// characters of it. [n_nodes]
    below: Vec<(Groups, u8)>,
    /// The same of each whole token, in the order of `tokens`.
    measures: Vec<(Groups, u8)>,
    /// The tokens that runs take.
    taken: Mutex<HashMap<Run, Arc<TokenMask>>>,
    max_depth: usize,
}

impl TokenTrie {
    /// From pairs sorted by bytes; equal byte strings share a node.
    pub(crate) fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        let mut trie = Self {
            bytes: Vec::new(),
            depths: Vec::new(),
            subtree_ends: Vec::new(),
            token_starts: Vec::new(),
            tokens: Vec::new(),
            below: Vec::new(),
            measures: Vec::new(),
            taken: Mutex::default(),
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
                trie.below.push((0, 0));
            }
            let measures = measure(bytes);
            for (&node, (groups, n_characters)) in path.iter().zip(&measures) {
                trie.below[node].0 |= groups;
                trie.below[node].1 = trie.below[node].1.max(*n_characters);
            }
            trie.measures
                .push(measures.first().copied().unwrap_or_default());
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
        found: impl FnMut(&mut C, TokenId, &S),
    ) -> Result<(), E> {
        let step = |context: &mut C, state: &S, node| step(context, state, self.byte(node));
        self.walk_nodes(context, start, step, found)
    }

    /// The same, where `step` is given the node whose byte comes.
    pub(crate) fn walk_nodes<C, S, E>(
        &self,
        context: &mut C,
        start: S,
        mut step: impl FnMut(&mut C, &S, usize) -> Result<Option<S>, E>,
        mut found: impl FnMut(&mut C, TokenId, &S),
    ) -> Result<(), E> {
        let mut states: Vec<S> = Vec::with_capacity(self.max_depth + 1);
        states.push(start);
        let mut node = 0;
        while node < self.bytes.len() {
            let depth = self.depths[node] as usize;
            states.truncate(depth + 1);
            let Some(state) = step(context, &states[depth], node)? else {
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

    /// All tokens, sorted by their bytes.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The byte on the edge into a node.
    pub(crate) fn byte(&self, node: usize) -> u8 {
        self.bytes[node]
    }

    /// The places of a subtree's tokens in [`TokenTrie::tokens`].
    pub(crate) fn tokens_below(&self, node: usize) -> Range<usize> {
        let end = self.subtree_ends[node] as usize;
        self.token_starts[node] as usize..self.token_starts[end] as usize
    }

    /// Allows the tokens that `step` follows to their ends from `start`. Those that the start's `run`
    /// takes are known beforehand, and whole subtrees that a later run takes are not walked; runs
    /// must be right but may be short.
    pub(crate) fn walk_in_runs<C, S: Clone + Eq + Hash, E>(
        &self,
        context: &mut C,
        start: S,
        mut step: impl FnMut(&mut C, &S, u8) -> Result<Option<S>, E>,
        mut run: impl FnMut(&mut C, &S) -> Result<Run, E>,
        mask: &mut TokenMask,
    ) -> Result<(), E> {
        let first = run(context, &start)?;
        mask.union(&self.taken(first, mask.n_tokens()));
        let mut runs = HashMap::from_iter([(start.clone(), first)]);
        // The state at each depth, and the characters before it if the first run takes them.
        let mut states: Vec<(S, Option<u8>)> = Vec::with_capacity(self.max_depth + 1);
        states.push((start, Some(0)));
        let mut node = 0;
        while node < self.bytes.len() {
            let depth = self.depths[node] as usize;
            states.truncate(depth + 1);
            let (state, n_before) = &states[depth];
            let (groups, n_characters) = self.below[node];
            let end = self.subtree_ends[node] as usize;
            if n_before.is_some_and(|n| first.takes(groups, n_characters.saturating_add(n))) {
                node = end;
                continue;
            }
            if groups & BROKEN == 0 && end - node >= MIN_SKIPPED {
                let known = match runs.get(state) {
                    Some(known) => *known,
                    None => {
                        let found = run(context, state)?;
                        runs.insert(state.clone(), found);
                        found
                    }
                };
                if known.takes(groups, n_characters) {
                    self.tokens[self.tokens_below(node)]
                        .iter()
                        .for_each(|&token| mask.allow(token));
                    node = end;
                    continue;
                }
            }
            let byte = self.bytes[node];
            let Some(next) = step(context, state, byte)? else {
                node = end;
                continue;
            };
            self.tokens_at(node)
                .iter()
                .for_each(|&token| mask.allow(token));
            let n_before = n_before.filter(|_| first.groups & group(byte) != 0);
            states.push((next, n_before.map(|n| n.saturating_add(1))));
            node += 1;
        }
        Ok(())
    }

    /// The tokens that a run takes whole.
    fn taken(&self, run: Run, n_tokens: usize) -> Arc<TokenMask> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = taken.get(&run) {
            return Arc::clone(known);
        }
        let mut mask = TokenMask::new(n_tokens);
        for (&token, &(groups, n_characters)) in self.tokens.iter().zip(&self.measures) {
            if run.takes(groups, n_characters) {
                mask.allow(token);
            }
        }
        if taken.len() >= MAX_TAKEN {
            taken.clear();
        }
        let mask = Arc::new(mask);
        taken.insert(run, Arc::clone(&mask));
        mask
    }

    /// The tokens that begin with `start`.
    pub(crate) fn beginning_with(&self, start: &[u8]) -> &[TokenId] {
        self.find(start)
            .map_or(&[], |node| &self.tokens[self.tokens_below(node)])
    }

    /// The tokens that equal `bytes`.
    pub(crate) fn equal_to(&self, bytes: &[u8]) -> &[TokenId] {
        self.find(bytes).map_or(&[], |node| self.tokens_at(node))
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let (mut node, mut end) = (0, self.bytes.len());
        let mut found = None;
        for &byte in bytes {
            while node < end && self.bytes[node] != byte {
                node = self.subtree_ends[node] as usize;
            }
            if node >= end {
                return None;
            }
            found = Some(node);
            (node, end) = (node + 1, self.subtree_ends[node] as usize);
        }
        found
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
