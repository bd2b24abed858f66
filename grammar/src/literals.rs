//! A finite set of byte strings as a trie: choices, enumerations, property names.
//!
//! The strings are sorted, so each node stands for a range of them, and the whole is a few flat
//! arrays: a schema has thousands of names, and most are never looked at.

use std::ops::Range;

use crate::bytes::ByteSet;

/// A node of a [`LiteralTrie`]; the root is 0.
pub(crate) type LiteralNode = u32;

/// A set of byte strings, each with the index it was given in order of insertion.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiteralTrie {
    nodes: Vec<TrieNode>,
    /// Bytes on the edges to the children of each node, ascending, and where they lead.
    edges: Vec<(u8, LiteralNode)>,
    /// Indices of the strings in their order as bytes.
    sorted: Vec<u32>,
    /// Whether some string has a backslash.
    is_escaped: bool,
}

#[derive(Clone, Debug, Default)]
struct TrieNode {
    edges: Range<u32>,
    /// Of `sorted`: the strings at this node and below; that at the node itself is first.
    below: Range<u32>,
    ends_here: bool,
    /// Fewest bytes to the end of a literal.
    distance: u32,
    /// Bytes from the root.
    depth: u32,
}

impl LiteralTrie {
    /// From byte strings; a repeated one keeps its first index.
    pub(crate) fn new<B: AsRef<[u8]>>(literals: &[B]) -> Self {
        let mut sorted: Vec<u32> = (0..literals.len() as u32).collect();
        let text = |idx: u32| literals[idx as usize].as_ref();
        sorted.sort_by_key(|&idx| (text(idx), idx));
        sorted.dedup_by_key(|idx| text(*idx));
        let mut trie = Self {
            nodes: vec![TrieNode {
                below: 0..sorted.len() as u32,
                distance: u32::MAX,
                ..TrieNode::default()
            }],
            edges: Vec::new(),
            is_escaped: literals.iter().any(|text| text.as_ref().contains(&b'\\')),
            sorted,
        };
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            trie.grow(node, &text, &mut open);
        }
        for node in (0..trie.nodes.len()).rev() {
            let edges = trie.nodes[node].edges.clone();
            let children = trie.edges[edges.start as usize..edges.end as usize].iter();
            let nearest = children.map(|&(_, child)| trie.nodes[child as usize].distance + 1);
            trie.nodes[node].distance = match trie.nodes[node].ends_here {
                true => 0,
                false => nearest.min().unwrap_or(u32::MAX),
            };
        }
        trie
    }

    /// Makes the children of a node, and all that lies below where only one string does; the others are left open.
    fn grow<'b>(&mut self, node: usize, text: &impl Fn(u32) -> &'b [u8], open: &mut Vec<usize>) {
        let TrieNode { below, depth, .. } = self.nodes[node].clone();
        if below.len() == 1 {
            let rest = &text(self.sorted[below.start as usize])[depth as usize..];
            return self.append(node, rest);
        }
        let sorted = &self.sorted;
        let byte = |place: u32| text(sorted[place as usize]).get(depth as usize).copied();
        let mut place = below.start;
        let ends_here = place < below.end && byte(place).is_none();
        place += u32::from(ends_here);
        let first_edge = self.edges.len() as u32;
        while place < below.end {
            let first = byte(place).expect("longer than the node");
            let start = place;
            while place < below.end && byte(place) == Some(first) {
                place += 1;
            }
            open.push(self.nodes.len());
            self.edges.push((first, self.nodes.len() as LiteralNode));
            self.nodes.push(TrieNode {
                below: start..place,
                depth: depth + 1,
                ..TrieNode::default()
            });
        }
        let found = &mut self.nodes[node];
        found.edges = first_edge..self.edges.len() as u32;
        found.ends_here = ends_here;
    }

    /// Makes a way of the rest of the one string below a node.
    fn append(&mut self, mut node: usize, rest: &[u8]) {
        let TrieNode { below, depth, .. } = self.nodes[node].clone();
        for (&byte, depth) in rest.iter().zip(depth + 1..) {
            let edge = self.edges.len() as u32;
            self.nodes[node].edges = edge..edge + 1;
            node = self.nodes.len();
            self.edges.push((byte, node as LiteralNode));
            self.nodes.push(TrieNode {
                below: below.clone(),
                depth,
                ..TrieNode::default()
            });
        }
        self.nodes[node].ends_here = true;
    }

    fn edges(&self, node: LiteralNode) -> &[(u8, LiteralNode)] {
        let Range { start, end } = self.nodes[node as usize].edges;
        &self.edges[start as usize..end as usize]
    }

    /// The bytes that lead on from `node`.
    pub(crate) fn bytes(&self, node: LiteralNode) -> ByteSet {
        self.edges(node).iter().map(|&(byte, _)| byte).collect()
    }

    /// The node after `byte`.
    pub(crate) fn child(&self, node: LiteralNode, byte: u8) -> Option<LiteralNode> {
        let edges = self.edges(node);
        let place = edges.binary_search_by_key(&byte, |&(byte, _)| byte).ok()?;
        Some(edges[place].1)
    }

    /// Whether nothing leads on from `node`.
    pub(crate) fn is_leaf(&self, node: LiteralNode) -> bool {
        self.edges(node).is_empty()
    }

    /// The literal that ends at `node`.
    pub(crate) fn literal(&self, node: LiteralNode) -> Option<u32> {
        let node = &self.nodes[node as usize];
        node.ends_here
            .then(|| self.sorted[node.below.start as usize])
    }

    /// Indices of the literals that pass through `node` or end there.
    pub(crate) fn below(&self, node: LiteralNode) -> &[u32] {
        let Range { start, end } = self.nodes[node as usize].below;
        &self.sorted[start as usize..end as usize]
    }

    /// Fewest bytes from `node` to the end of a literal; `u32::MAX` for the root of an empty set.
    pub(crate) fn distance(&self, node: LiteralNode) -> u32 {
        self.nodes[node as usize].distance
    }

    /// Bytes from the root to `node`.
    pub(crate) fn depth(&self, node: LiteralNode) -> u32 {
        self.nodes[node as usize].depth
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(&*self.nodes) + size_of_val(&*self.edges) + size_of_val(&*self.sorted)
    }

    /// Whether some string has a backslash.
    pub(crate) fn is_escaped(&self) -> bool {
        self.is_escaped
    }

    /// Whether the set holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}
