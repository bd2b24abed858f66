//! Tokens as a trie of their bytes, which masks are found by walking.
//!
//! The nodes lie in preorder in a flat array; `subtree_end` skips a node's descendants, so a walk is
//! one loop over ascending indices with a stack of automaton states, one for each depth. Most of a
//! walk is nodes that die at once, so what is read of these is kept small.

use std::hash::Hash;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use foldhash::HashMap;

use crate::bytes::ByteSet;
use crate::runs::{BROKEN, Groups, Run, group, measure};
use crate::{TokenId, TokenMask};

/// Nodes of a subtree from which on it is worth asking for a run.
const MIN_SKIPPED: usize = 16;
/// Tokens from which on the masks of runs are remembered, and how many at a time.
const MIN_REMEMBERED: usize = 4096;
const MAX_TAKEN: usize = 512;

/// Byte strings with their tokens, as a trie in preorder without its root.
#[derive(Debug)]
pub(crate) struct TokenTrie {
    /// [n_nodes]
    nodes: Vec<Node>,
    /// The nodes of depth 0 with their bytes. [n_roots]
    roots: Vec<(u8, u32)>,
    /// Where the node's tokens begin in `tokens`. [n_nodes + 1]
    token_starts: Vec<u32>,
    tokens: Vec<TokenId>,
    /// The groups of characters of what stands from each node's byte on in its subtree, and the most
    /// characters of it. [n_nodes]
    below: Vec<(Groups, u8)>,
    /// The same of each whole token, in the order of `tokens`.
    measures: Vec<(Groups, u8)>,
    /// The most bytes of a token beyond each node's own. [n_nodes]
    heights: Vec<u8>,
    /// The tokens that consist of some groups and have at most so many characters.
    taken: Mutex<HashMap<(Groups, u8), TokenMask>>,
    max_depth: usize,
    /// The groups of characters of all tokens.
    groups: Groups,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Index after the node's last descendant.
    subtree_end: u32,
    /// Length of the node's string less one.
    depth: u32,
    /// On the edge into the node.
    byte: u8,
}

impl TokenTrie {
    /// From pairs sorted by bytes; equal byte strings share a node.
    pub(crate) fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        let mut trie = Self {
            nodes: Vec::new(),
            roots: Vec::new(),
            token_starts: Vec::new(),
            tokens: Vec::new(),
            below: Vec::new(),
            measures: Vec::new(),
            heights: Vec::new(),
            taken: Mutex::default(),
            max_depth: 0,
            groups: 0,
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
                if depth == 0 {
                    trie.roots.push((byte, trie.nodes.len() as u32));
                }
                path.push(trie.nodes.len());
                trie.nodes.push(Node {
                    subtree_end: 0,
                    depth: depth as u32,
                    byte,
                });
                trie.token_starts.push(trie.tokens.len() as u32);
                trie.below.push((0, 0));
                trie.heights.push(0);
            }
            for (depth, &node) in path.iter().enumerate() {
                let height = (bytes.len() - 1 - depth).min(u8::MAX.into()) as u8;
                trie.heights[node] = trie.heights[node].max(height);
            }
            let measures = measure(bytes);
            for (&node, (groups, n_characters)) in path.iter().zip(&measures) {
                trie.below[node].0 |= groups;
                trie.below[node].1 = trie.below[node].1.max(*n_characters);
            }
            let whole = measures.first().copied().unwrap_or_default();
            trie.groups |= whole.0;
            trie.measures.push(whole);
            trie.tokens.push(token);
            trie.max_depth = trie.max_depth.max(bytes.len());
            previous = bytes;
        }
        trie.close(&mut path, 0);
        trie.token_starts.push(trie.tokens.len() as u32);
        trie
    }

    fn close(&mut self, path: &mut Vec<usize>, n_kept: usize) {
        let end = self.nodes.len() as u32;
        for node in path.drain(n_kept..) {
            self.nodes[node].subtree_end = end;
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
        let step = |context: &mut C, state: &S, (_, byte)| step(context, state, byte);
        self.walk_nodes(context, start, |_, _| ByteSet::ALL, step, found)
    }

    /// The same, where `bytes` tells which may come at all, so that the others need not be tried, and
    /// `step` is given the node, too, that the byte leads to.
    pub(crate) fn walk_nodes<C, S, E>(
        &self,
        context: &mut C,
        start: S,
        bytes: impl Fn(&C, &S) -> ByteSet,
        mut step: impl FnMut(&mut C, &S, (usize, u8)) -> Result<Option<S>, E>,
        mut found: impl FnMut(&mut C, TokenId, &S),
    ) -> Result<(), E> {
        let mut states: Vec<(S, ByteSet)> = Vec::with_capacity(self.max_depth + 1);
        let first = bytes(context, &start);
        states.push((start, first));
        let mut enter = |context: &mut C, states: &mut Vec<_>, node: usize, state: S| {
            for &token in self.tokens_at(node) {
                found(context, token, &state);
            }
            let next = bytes(context, &state);
            states.push((state, next));
        };
        for &(byte, root) in self.roots.iter().filter(|root| first.contains(root.0)) {
            states.truncate(1);
            let root = root as usize;
            let Some(state) = step(context, &states[0].0, (root, byte))? else {
                continue;
            };
            enter(context, &mut states, root, state);
            let mut node = root + 1;
            let end = self.nodes[root].subtree_end as usize;
            while node < end {
                let Node {
                    subtree_end,
                    depth,
                    byte,
                } = self.nodes[node];
                states.truncate(depth as usize + 1);
                let (state, next) = &states[depth as usize];
                let state = match next.contains(byte) {
                    true => step(context, state, (node, byte))?,
                    false => None,
                };
                match state {
                    Some(state) => {
                        enter(context, &mut states, node, state);
                        node += 1;
                    }
                    None => node = subtree_end as usize,
                }
            }
        }
        Ok(())
    }

    /// All tokens, sorted by their bytes.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The most bytes of a token beyond the node's own; `None` if they are very many.
    pub(crate) fn height(&self, node: usize) -> Option<usize> {
        let height = self.heights[node];
        (height < u8::MAX).then_some(height.into())
    }

    /// The places of a subtree's tokens in [`TokenTrie::tokens`].
    pub(crate) fn tokens_below(&self, node: usize) -> Range<usize> {
        let end = self.nodes[node].subtree_end as usize;
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
        self.add_taken(first, mask);
        let mut runs = HashMap::from_iter([(start.clone(), first)]);
        // The state at each depth, and the characters before it if the first run takes them.
        let mut states: Vec<(S, Option<u8>)> = Vec::with_capacity(self.max_depth + 1);
        states.push((start, Some(0)));
        let mut node = 0;
        while node < self.nodes.len() {
            let Node {
                subtree_end,
                depth,
                byte,
            } = self.nodes[node];
            let (depth, end) = (depth as usize, subtree_end as usize);
            states.truncate(depth + 1);
            let (state, n_before) = &states[depth];
            let (groups, n_characters) = self.below[node];
            let takes = |n: u8| first.takes(groups, n_characters.saturating_add(n));
            if n_before.is_some_and(|n| first.decides(groups) || takes(n)) {
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

    /// Allows the tokens that a run takes whole.
    fn add_taken(&self, run: Run, mask: &mut TokenMask) {
        let allow = |mask: &mut TokenMask| {
            for (&token, &(groups, n_characters)) in self.tokens.iter().zip(&self.measures) {
                if run.takes(groups, n_characters) {
                    mask.allow(token);
                }
            }
        };
        if self.tokens.len() < MIN_REMEMBERED {
            return allow(mask);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= MAX_TAKEN {
            taken.clear();
        }
        let most = run
            .n_characters
            .min(self.max_depth.min(u8::MAX.into()) as u8);
        let known = taken.entry((run.groups, most)).or_insert_with(|| {
            let mut known = TokenMask::new(mask.n_tokens());
            allow(&mut known);
            known
        });
        mask.union(known);
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
        let (first, rest) = bytes.split_first()?;
        rest.iter()
            .try_fold(self.root(*first)?, |node, &byte| self.child(node, byte))
    }

    fn root(&self, byte: u8) -> Option<usize> {
        let place = self.roots.binary_search_by_key(&byte, |root| root.0);
        place.ok().map(|place| self.roots[place].1 as usize)
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let (mut child, end) = (node + 1, self.nodes[node].subtree_end as usize);
        while child < end && self.nodes[child].byte != byte {
            child = self.nodes[child].subtree_end as usize;
        }
        (child < end).then_some(child)
    }

    /// The longest token that `text` begins with, and its length.
    pub(crate) fn longest_match(&self, text: &[u8]) -> Option<(TokenId, usize)> {
        let mut longest = None;
        let mut node = None;
        for (depth, &byte) in text.iter().enumerate() {
            node = match node {
                None => self.root(byte),
                Some(node) => self.child(node, byte),
            };
            let Some(node) = node else {
                break;
            };
            longest = self
                .tokens_at(node)
                .first()
                .map(|&token| (token, depth + 1))
                .or(longest);
        }
        longest
    }

    fn tokens_at(&self, node: usize) -> &[TokenId] {
        &self.tokens[self.token_starts[node] as usize..self.token_starts[node + 1] as usize]
    }

    /// The groups of characters that tokens consist of.
    pub(crate) fn groups(&self) -> Groups {
        self.groups
    }

    /// Bytes of the longest token.
    pub(crate) fn max_depth(&self) -> usize {
        self.max_depth
    }
}
