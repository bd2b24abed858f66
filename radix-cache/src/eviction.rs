//! Which pages go first when the pool is full.
//!
//! Only unlocked leaves are candidates, and a leaf gives its pages from the end, so a tail always goes before its prefix
//! whatever the policy says.

use std::collections::BTreeSet;

use crate::nodes::{Node, NodeIdx};
use crate::{PageId, RadixCache};

/// The order of eviction among unlocked leaves. Ties are broken by least recent use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The least recently used first.
    #[default]
    Lru,
    /// The least often matched first.
    Lfu,
    /// The lowest priority first.
    Priority,
}

/// A place in the queue: score, last use, node. The smallest is evicted first.
pub(crate) type Rank = (u64, u64, NodeIdx);

/// Every unlocked leaf, by rank.
pub(crate) type Queue = BTreeSet<Rank>;

impl Policy {
    /// The rank that `node`, at `idx`, should have.
    pub(crate) fn rank(self, idx: NodeIdx, node: &Node) -> Rank {
        let score = match self {
            Policy::Lru => 0,
            Policy::Lfu => node.n_hits,
            Policy::Priority => u64::from(node.priority),
        };
        (score, node.last_used, idx)
    }
}

impl RadixCache {
    /// Evicts at least `n_pages` pages by policy, or all that are evictable, and hands them back.
    pub fn evict(&mut self, n_pages: usize) -> Vec<PageId> {
        let mut evicted = Vec::new();
        while evicted.len() < n_pages {
            let Some(&(_, _, leaf)) = self.queue.first() else {
                break;
            };
            let n_left = n_pages - evicted.len();
            self.shorten(leaf, n_left, &mut evicted);
        }
        if !evicted.is_empty() {
            self.version += 1;
        }
        evicted
    }

    /// Takes up to `n_pages` pages off the end of an unlocked leaf, and the leaf itself with its last page.
    fn shorten(&mut self, leaf: NodeIdx, n_pages: usize, evicted: &mut Vec<PageId>) {
        let n_kept = self.nodes[leaf].pages.len().saturating_sub(n_pages);
        if n_kept == 0 {
            evicted.extend(self.remove_leaf(leaf));
            return;
        }
        let node = &mut self.nodes[leaf];
        let n_before = evicted.len();
        evicted.extend(node.pages.drain(n_kept..).rev());
        node.tokens.truncate(n_kept * self.page_size);
        self.n_pages -= evicted.len() - n_before;
    }

    /// Removes an unlocked leaf and gives its pages, last first.
    pub(crate) fn remove_leaf(&mut self, leaf: NodeIdx) -> impl Iterator<Item = PageId> + use<> {
        debug_assert!(
            self.nodes[leaf].is_evictable(),
            "only unlocked leaves are removed"
        );
        self.dequeue(leaf);
        let node = self.nodes.remove(leaf);
        self.n_pages -= node.pages.len();
        let parent = node.parent.expect("a leaf with pages is no root");
        self.nodes[parent].children.remove(node.key(self.page_size));
        self.settle_rank(parent);
        node.pages.into_iter().rev()
    }

    /// Brings a node's place in the queue up to date, and forgets a root that nothing needs.
    pub(crate) fn settle_rank(&mut self, idx: NodeIdx) {
        self.dequeue(idx);
        let node = &mut self.nodes[idx];
        if node.is_evictable() {
            let rank = self.policy.rank(idx, node);
            node.rank = Some(rank);
            self.queue.insert(rank);
        } else if node.parent.is_none() && node.n_locks == 0 && node.children.is_empty() {
            let root = self.nodes.remove(idx);
            self.roots.remove(&root.namespace);
        }
    }

    pub(crate) fn dequeue(&mut self, idx: NodeIdx) {
        if let Some(rank) = self.nodes[idx].rank.take() {
            self.queue.remove(&rank);
        }
    }
}
