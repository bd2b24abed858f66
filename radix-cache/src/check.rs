//! The whole invariant of the tree, checked from scratch: for tests, and for debug builds of what owns the pool.

use std::collections::BTreeSet;

use crate::eviction::Queue;
use crate::nodes::NodeIdx;
use crate::{PageId, RadixCache};

/// A part of the invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the radix tree is out of balance: {0}")]
pub struct Imbalance(String);

/// What a traversal counts.
#[derive(Default)]
struct Count {
    n_nodes: usize,
    n_pages: usize,
    n_protected: usize,
    n_guards: usize,
    pages: BTreeSet<PageId>,
    queue: Queue,
}

impl RadixCache {
    /// Checks shape, keys, locks, counters and queue. Its time is linear in the tree.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), Imbalance> {
        let mut count = Count::default();
        for (&namespace, &root) in &self.roots {
            ensure(self.nodes[root].parent.is_none(), || {
                "a root has a parent".into()
            })?;
            let node = &self.nodes[root];
            let is_needed = node.n_locks > 0 || !node.children.is_empty();
            ensure(is_needed, || {
                format!("the root of {namespace} is forgotten")
            })?;
            self.check_node(root, namespace, &mut count)?;
        }
        equal("nodes", count.n_nodes, self.nodes.len())?;
        equal("pages", count.n_pages, self.n_pages)?;
        equal("distinct pages", count.pages.len(), self.n_pages)?;
        equal("protected pages", count.n_protected, self.n_protected)?;
        equal("guards", count.n_guards, self.n_guards)?;
        ensure(count.queue == self.queue, || {
            "the queue is not the set of unlocked leaves".into()
        })
    }

    fn check_node(&self, idx: NodeIdx, namespace: u64, count: &mut Count) -> Result<(), Imbalance> {
        let node = &self.nodes[idx];
        ensure(node.namespace == namespace, || {
            format!("{idx:?} strayed from its namespace")
        })?;
        let (n_tokens, n_pages) = (node.tokens.len(), node.pages.len());
        equal(
            "pages of an edge",
            n_tokens.div_ceil(self.page_size),
            n_pages,
        )?;
        ensure(node.parent.is_none() == (n_tokens == 0), || {
            format!("{idx:?} has a bad edge")
        })?;
        let is_partial = !n_tokens.is_multiple_of(self.page_size);
        ensure(!is_partial || node.children.is_empty(), || {
            format!("{idx:?} hangs nodes below part of a page")
        })?;
        count.n_nodes += 1;
        count.n_pages += n_pages;
        count.n_protected += if node.n_locks > 0 { n_pages } else { 0 };
        count.pages.extend(&node.pages);
        if node.is_evictable() {
            let rank = self.policy.rank(idx, node);
            ensure(node.rank == Some(rank), || {
                format!("{idx:?} has a stale rank")
            })?;
            count.queue.insert(rank);
        }
        let mut n_locks_below = 0;
        for (key, &child) in &node.children {
            ensure(self.nodes[child].parent == Some(idx), || {
                format!("{child:?} has lost {idx:?}")
            })?;
            let is_known = **key == *self.nodes[child].key(self.page_size);
            ensure(is_known, || format!("{child:?} is known by the wrong key"))?;
            n_locks_below += self.nodes[child].n_locks;
            self.check_node(child, namespace, count)?;
        }
        ensure(node.n_locks >= n_locks_below, || {
            format!("{idx:?} has lost a lock")
        })?;
        count.n_guards += node.n_locks - n_locks_below;
        Ok(())
    }
}

fn ensure(holds: bool, fault: impl FnOnce() -> String) -> Result<(), Imbalance> {
    if holds {
        Ok(())
    } else {
        Err(Imbalance(fault()))
    }
}

fn equal(what: &str, counted: usize, kept: usize) -> Result<(), Imbalance> {
    ensure(counted == kept, || {
        format!("{what}: {counted} counted, {kept} kept")
    })
}
