//! The nodes of the tree, in a slab whose indices stay valid while a node lives.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use crate::eviction::Rank;
use crate::{PageId, TokenId};

/// Index of a node in its slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeIdx(u32);

/// A node with the edge that leads to it. A root's edge is empty.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The node above; none for a namespace's root.
    pub(crate) parent: Option<NodeIdx>,
    /// The namespace of the tree it belongs to.
    pub(crate) namespace: u64,
    /// The tokens on the edge: whole pages, but for the last page of a leaf.
    pub(crate) tokens: Vec<TokenId>,
    /// Their pages, `[tokens.len() / page_size]`, rounded up.
    pub(crate) pages: Vec<PageId>,
    /// The nodes below, by the tokens of their first page. At most one key begins with a given whole page.
    pub(crate) children: BTreeMap<Box<[TokenId]>, NodeIdx>,
    /// Guards on this node and on all nodes below it.
    pub(crate) n_locks: usize,
    /// The operation that used it last.
    pub(crate) last_used: u64,
    /// How often it was matched.
    pub(crate) n_hits: u64,
    /// The highest priority it was inserted with.
    pub(crate) priority: u8,
    /// Its place in the eviction queue, if it is in it.
    pub(crate) rank: Option<Rank>,
}

impl Node {
    /// The tokens of the first page, by which the parent knows the node.
    pub(crate) fn key(&self, page_size: usize) -> &[TokenId] {
        &self.tokens[..page_size.min(self.tokens.len())]
    }

    /// Whether it may be evicted: an unlocked leaf. Roots have no pages to give.
    pub(crate) fn is_evictable(&self) -> bool {
        self.parent.is_some() && self.n_locks == 0 && self.children.is_empty()
    }
}

/// A slab of nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    slots: Vec<Option<Node>>,
    vacant: Vec<NodeIdx>,
}

impl Nodes {
    pub(crate) fn add(&mut self, node: Node) -> NodeIdx {
        if let Some(idx) = self.vacant.pop() {
            self.slots[idx.0 as usize] = Some(node);
            return idx;
        }
        self.slots.push(Some(node));
        NodeIdx(u32::try_from(self.slots.len() - 1).expect("fewer nodes than page ids"))
    }

    pub(crate) fn remove(&mut self, idx: NodeIdx) -> Node {
        let node = self.slots[idx.0 as usize]
            .take()
            .expect("a node is removed once");
        self.vacant.push(idx);
        node
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}

impl Index<NodeIdx> for Nodes {
    type Output = Node;

    fn index(&self, idx: NodeIdx) -> &Node {
        self.slots[idx.0 as usize]
            .as_ref()
            .expect("an index outlives no node")
    }
}

impl IndexMut<NodeIdx> for Nodes {
    fn index_mut(&mut self, idx: NodeIdx) -> &mut Node {
        self.slots[idx.0 as usize]
            .as_mut()
            .expect("an index outlives no node")
    }
}
