//! Tokens as a trie of their bytes, which masks are found by walking.
//!
//! The nodes lie in preorder in a flat array; `subtree_end` skips a node's descendants, so a walk is
//! one loop over ascending indices with a stack of automaton states, one for each depth.

mod brief;
mod in_runs;
mod listed;

use std::ops::Range;
use std::sync::{Mutex, OnceLock};

use foldhash::HashMap;

use crate::bytes::ByteSet;
use crate::runs::{Groups, measure};
use crate::token_set::TokenSet;
use crate::trie::brief::Brief;
use crate::trie::listed::{ByGroups, Listed};
use crate::{TokenId, TokenMask};

/// Byte strings with their tokens, as a trie in preorder without its root.
#[derive(Debug)]
pub(crate) struct TokenTrie {
    /// In preorder; behind the last stands one more, where all subtrees and tokens end. [n_nodes + 1]
    nodes: Vec<Node>,
    /// The same, as walks that take words in runs read them. [n_nodes], none in a bare trie.
    briefs: Vec<Brief>,
    /// The nodes of depth 0 with their bytes. [n_roots]
    roots: Vec<(u8, u32)>,
    tokens: Vec<TokenId>,
    /// The tokens by the groups of their characters.
    listed: Listed,
    /// All tokens, once that was asked for.
    all: OnceLock<TokenMask>,
    /// The tokens that consist of some groups and have at most so many characters.
    taken: Mutex<HashMap<(Groups, u8), TokenSet>>,
    max_depth: usize,
    /// The groups of characters of all tokens.
    groups: Groups,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Index after the node's last descendant.
    subtree_end: u32,
    /// Where the tokens of the subtree begin in `tokens`.
    first_token: u32,
    /// Length of the node's string less one.
    depth: u32,
    /// On the edge into the node.
    byte: u8,
    /// The most bytes of a token beyond the node's own.
    height: u8,
}

impl Node {
    fn new(byte: u8, depth: usize, first_token: usize) -> Self {
        Self {
            subtree_end: 0,
            first_token: first_token as u32,
            depth: depth as u32,
            byte,
            height: 0,
        }
    }
}

impl TokenTrie {
    /// From pairs sorted by bytes; equal byte strings share a node.
    pub(crate) fn new(sorted: &[(&[u8], TokenId)]) -> Self {
        Self::build(sorted, true)
    }

    /// The same without what runs ask for: it is walked byte by byte.
    pub(crate) fn bare(sorted: &[(&[u8], TokenId)]) -> Self {
        Self::build(sorted, false)
    }

    fn build(sorted: &[(&[u8], TokenId)], for_runs: bool) -> Self {
        let mut trie = Self {
            nodes: Vec::new(),
            briefs: Vec::new(),
            roots: Vec::new(),
            tokens: Vec::new(),
            listed: Listed::default(),
            all: OnceLock::new(),
            taken: Mutex::default(),
            max_depth: 0,
            groups: 0,
        };
        let mut by_groups = ByGroups::default();
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
                trie.nodes.push(Node::new(byte, depth, trie.tokens.len()));
            }
            for (depth, &node) in path.iter().enumerate() {
                let height = (bytes.len() - 1 - depth).min(u8::MAX.into()) as u8;
                let node = &mut trie.nodes[node];
                node.height = node.height.max(height);
            }
            if for_runs {
                let measures = measure(bytes);
                trie.briefs.resize(trie.nodes.len(), Brief::NONE);
                for (&node, &measure) in path.iter().zip(&measures) {
                    trie.briefs[node].add(measure);
                }
                if let Some(&(groups, n_characters)) = measures.first() {
                    trie.groups |= groups;
                    let alike = by_groups.entry(groups).or_default();
                    alike.push((n_characters, token, bytes));
                }
            }
            trie.tokens.push(token);
            trie.max_depth = trie.max_depth.max(bytes.len());
            previous = bytes;
        }
        trie.close(&mut path, 0);
        trie.nodes.push(Node::new(0, 0, trie.tokens.len()));
        for (brief, nodes) in trie.briefs.iter_mut().zip(trie.nodes.windows(2)) {
            brief.complete(&nodes[0], &nodes[1]);
        }
        trie.listed = Listed::new(by_groups);
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
                    ..
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
        let height = self.nodes[node].height;
        (height < u8::MAX).then_some(height.into())
    }

    /// The places of a subtree's tokens in [`TokenTrie::tokens`].
    pub(crate) fn tokens_below(&self, node: usize) -> Range<usize> {
        let end = self.nodes[node].subtree_end as usize;
        self.nodes[node].first_token as usize..self.nodes[end].first_token as usize
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
        let [first, end] = [node, node + 1].map(|node| self.nodes[node].first_token as usize);
        &self.tokens[first..end]
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
