//! The tree: matching, inserting, locking.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::eviction::{Policy, Queue};
use crate::nodes::{Node, NodeIdx, Nodes};
use crate::{PageId, TokenId};

/// A lock on the path from the root to a node. Not `Clone`: [`RadixCache::fork`] takes another one on purpose, and
/// [`RadixCache::release`] gives it back. One that is dropped instead protects its pages for ever.
#[derive(Debug)]
#[must_use = "a guard that is not released protects its pages for ever"]
pub struct Guard {
    pub(crate) node: NodeIdx,
}

/// The longest prefix that the tree holds.
#[derive(Debug)]
pub struct Match {
    /// Protects `pages`.
    pub guard: Guard,
    /// The pages of the first `pages.len() * page_size` tokens.
    pub pages: Vec<PageId>,
    /// A page that holds some of the tokens that follow, if there is one.
    pub tail: Option<Tail>,
}

/// A page whose first tokens continue a match. It belongs to others: copy them before writing after them.
#[derive(Debug)]
pub struct Tail {
    /// Protects `page` until it is copied.
    pub guard: Guard,
    /// The page.
    pub page: PageId,
    /// How many of its tokens match, at least 1.
    pub n_tokens: usize,
}

/// What became of a running sequence's pages when it shared them.
#[derive(Debug)]
pub struct Published {
    /// Protects `pages`, in place of the sequence's earlier guard.
    pub guard: Guard,
    /// The tree's pages for the same tokens: where others had come first, theirs.
    pub pages: Vec<PageId>,
    /// Pages that nobody needs any more.
    pub returned: Vec<PageId>,
}

/// Where the tokens of a query end in the tree.
struct Walk {
    /// The last node that matches as a whole.
    node: NodeIdx,
    /// Tokens down to it; whole pages.
    n_tokens: usize,
    /// The node below whose edge matches in part, and how many tokens of it: whole pages, at least one.
    edge: Option<(NodeIdx, usize)>,
}

/// Token prefixes to pages. Pages handed in belong to the tree until it hands them back.
#[derive(Debug)]
pub struct RadixCache {
    pub(crate) page_size: usize,
    pub(crate) policy: Policy,
    pub(crate) nodes: Nodes,
    pub(crate) roots: BTreeMap<u64, NodeIdx>,
    pub(crate) queue: Queue,
    /// Counts operations: the only time there is.
    pub(crate) clock: u64,
    pub(crate) version: u64,
    pub(crate) n_pages: usize,
    pub(crate) n_protected: usize,
    pub(crate) n_guards: usize,
}

impl RadixCache {
    /// An empty tree of pages that hold `page_size` tokens each.
    ///
    /// # Panics
    /// If `page_size` is 0.
    #[must_use]
    pub fn new(page_size: usize, policy: Policy) -> Self {
        assert!(page_size > 0, "a page holds at least one token");
        Self {
            page_size,
            policy,
            nodes: Nodes::default(),
            roots: BTreeMap::new(),
            queue: Queue::new(),
            clock: 0,
            version: 0,
            n_pages: 0,
            n_protected: 0,
            n_guards: 0,
        }
    }

    /// Pages in the tree.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Pages that [`RadixCache::evict`] could hand back now.
    #[must_use]
    pub fn n_evictable(&self) -> usize {
        self.n_pages - self.n_protected
    }

    /// Guards that were taken and not released.
    #[must_use]
    pub fn n_guards(&self) -> usize {
        self.n_guards
    }

    /// Changes whenever [`RadixCache::peek`] may answer differently.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many of `tokens` a match would give, its tail included. Locks and touches nothing.
    #[must_use]
    pub fn peek(&self, namespace: u64, tokens: &[TokenId]) -> usize {
        let Some(&root) = self.roots.get(&namespace) else {
            return 0;
        };
        let walk = self.walk(root, tokens);
        let Some((child, n_common)) = walk.edge else {
            let tail = self.tail(walk.node, &tokens[walk.n_tokens..]);
            return walk.n_tokens + tail.map_or(0, |(_, n_tokens)| n_tokens);
        };
        let n_tokens = walk.n_tokens + n_common;
        let next_page = self.nodes[child].tokens[n_common..]
            .iter()
            .take(self.page_size);
        n_tokens
            + next_page
                .zip(&tokens[n_tokens..])
                .take_while(|(a, b)| a == b)
                .count()
    }

    /// Finds the longest prefix of `tokens`, locks it, and marks it as used. A match that ends inside an edge splits
    /// it, so that no more than the match is locked.
    pub fn match_prefix(&mut self, namespace: u64, tokens: &[TokenId]) -> Match {
        let (node, n_tokens) = self.settle(namespace, tokens);
        let tail = self.tail(node, &tokens[n_tokens..]);
        let guard = self.lock(node);
        self.touch(tail.map_or(node, |(child, _)| child));
        let tail = tail.map(|(child, n_tokens)| Tail {
            guard: self.lock(child),
            page: self.nodes[child].pages[0],
            n_tokens,
        });
        Match {
            guard,
            pages: self.path_pages(node),
            tail,
        }
    }

    /// Takes a second lock on what `guard` protects.
    pub fn fork(&mut self, guard: &Guard) -> Guard {
        self.lock(guard.node)
    }

    /// Gives a lock back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a released guard must not be used again"
    )]
    pub fn release(&mut self, guard: Guard) {
        self.n_guards -= 1;
        let mut next = Some(guard.node);
        while let Some(idx) = next {
            let node = &mut self.nodes[idx];
            node.n_locks -= 1;
            next = node.parent;
            if node.n_locks == 0 {
                self.n_protected -= node.pages.len();
                self.settle_rank(idx);
            }
        }
    }

    /// Gives the pages of `tokens` to the tree; the last page may hold fewer tokens than fit. Returns the pages that
    /// nobody needs: those of tokens that the tree has in other pages, and those that the new ones make useless. Pages
    /// that are in the tree at the same place already stay there.
    ///
    /// # Panics
    /// If `pages` are not exactly those of `tokens`.
    pub fn insert(
        &mut self,
        namespace: u64,
        tokens: &[TokenId],
        pages: &[PageId],
        priority: u8,
    ) -> Vec<PageId> {
        assert_eq!(
            pages.len(),
            tokens.len().div_ceil(self.page_size),
            "pages of the tokens"
        );
        let (mut node, n_tokens) = self.settle(namespace, tokens);
        let (shared, new) = pages.split_at(n_tokens / self.page_size);
        let mut returned: Vec<PageId> = self
            .path_pages(node)
            .into_iter()
            .zip(shared)
            .filter_map(|(kept, &given)| (kept != given).then_some(given))
            .collect();
        let rest = &tokens[n_tokens..];
        if let Some(cover) = self.covering(node, rest) {
            let kept = self.nodes[cover].pages[0];
            returned.extend(new.iter().filter(|&&given| given != kept));
            node = cover;
        } else if !rest.is_empty() {
            let leaf = self.add_leaf(node, rest, new);
            let dropped = self.drop_covered(node, rest);
            returned.extend(dropped.into_iter().filter(|page| !new.contains(page)));
            node = leaf;
        }
        self.raise_priority(node, priority);
        self.touch(node);
        returned
    }

    /// Shares the whole pages that a running sequence has computed: inserts them and moves its lock down to them.
    ///
    /// # Panics
    /// If `pages` are not exactly those of `tokens`, or the last one is not full.
    pub fn publish(
        &mut self,
        guard: Guard,
        namespace: u64,
        tokens: &[TokenId],
        pages: &[PageId],
    ) -> Published {
        assert!(
            tokens.len().is_multiple_of(self.page_size),
            "only whole pages are shared"
        );
        let returned = self.insert(namespace, tokens, pages, 0);
        let (node, n_tokens) = self.settle(namespace, tokens);
        debug_assert_eq!(n_tokens, tokens.len(), "what was inserted is found");
        let deeper = self.lock(node);
        self.release(guard);
        Published {
            guard: deeper,
            pages: self.path_pages(node),
            returned,
        }
    }

    fn walk(&self, root: NodeIdx, tokens: &[TokenId]) -> Walk {
        let (mut node, mut n_tokens) = (root, 0);
        loop {
            let rest = &tokens[n_tokens..];
            let first_page = rest.get(..self.page_size);
            let child = first_page.and_then(|page| self.nodes[node].children.get(page));
            let Some(&child) = child else {
                return Walk {
                    node,
                    n_tokens,
                    edge: None,
                };
            };
            let edge = &self.nodes[child].tokens;
            let pages = edge
                .chunks_exact(self.page_size)
                .zip(rest.chunks_exact(self.page_size));
            let n_common = pages.take_while(|(a, b)| a == b).count() * self.page_size;
            if n_common < edge.len() {
                return Walk {
                    node,
                    n_tokens,
                    edge: Some((child, n_common)),
                };
            }
            node = child;
            n_tokens += n_common;
        }
    }

    /// The node at which the whole pages of a match end, made by a split if need be, and the tokens down to it.
    fn settle(&mut self, namespace: u64, tokens: &[TokenId]) -> (NodeIdx, usize) {
        let nodes = &mut self.nodes;
        let root = *self.roots.entry(namespace).or_insert_with(|| {
            nodes.add(Node {
                namespace,
                ..Node::default()
            })
        });
        let walk = self.walk(root, tokens);
        match walk.edge {
            None => (walk.node, walk.n_tokens),
            Some((child, n_common)) => (self.split(child, n_common), walk.n_tokens + n_common),
        }
    }

    /// Cuts the edge to `lower` after `n_tokens`, whole pages, and returns the new node above it. `lower` keeps its
    /// index, for guards name it and protect all of its path.
    fn split(&mut self, lower: NodeIdx, n_tokens: usize) -> NodeIdx {
        let node = &mut self.nodes[lower];
        let rest = node.tokens.split_off(n_tokens);
        let tokens = std::mem::replace(&mut node.tokens, rest);
        let rest = node.pages.split_off(n_tokens / self.page_size);
        let pages = std::mem::replace(&mut node.pages, rest);
        let upper = Node {
            parent: node.parent,
            namespace: node.namespace,
            tokens,
            pages,
            children: BTreeMap::from([(node.key(self.page_size).into(), lower)]),
            n_locks: node.n_locks,
            last_used: node.last_used,
            n_hits: node.n_hits,
            priority: node.priority,
            rank: None,
        };
        let parent = upper.parent.expect("a root has no edge to split");
        let key: Box<[TokenId]> = upper.key(self.page_size).into();
        let upper = self.nodes.add(upper);
        self.nodes[lower].parent = Some(upper);
        self.nodes[parent].children.insert(key, upper);
        upper
    }

    /// The child whose first page shares the most tokens with `rest`, and how many. In the order of the keys it is a
    /// neighbour of `rest`.
    fn tail(&self, node: NodeIdx, rest: &[TokenId]) -> Option<(NodeIdx, usize)> {
        let children = &self.nodes[node].children;
        let mut below = children.range::<[TokenId], _>((Bound::Unbounded, Bound::Included(rest)));
        let mut above = children.range::<[TokenId], _>((Bound::Excluded(rest), Bound::Unbounded));
        let neighbours = below.next_back().into_iter().chain(above.next());
        neighbours
            .map(|(key, &child)| {
                (
                    child,
                    key.iter().zip(rest).take_while(|(a, b)| a == b).count(),
                )
            })
            .filter(|&(_, n_common)| n_common > 0)
            .max_by_key(|&(_, n_common)| n_common)
    }

    /// The child that holds all of `rest`, less than a page, in its first page.
    fn covering(&self, node: NodeIdx, rest: &[TokenId]) -> Option<NodeIdx> {
        if rest.is_empty() || rest.len() >= self.page_size {
            return None;
        }
        let children = &self.nodes[node].children;
        let (key, &child) = children
            .range::<[TokenId], _>((Bound::Included(rest), Bound::Unbounded))
            .next()?;
        key.starts_with(rest).then_some(child)
    }

    /// Removes the unlocked leaves of part of a page that `rest` continues.
    fn drop_covered(&mut self, node: NodeIdx, rest: &[TokenId]) -> Vec<PageId> {
        let mut dropped = Vec::new();
        for n_tokens in 1..self.page_size.min(rest.len()) {
            let child = self.nodes[node].children.get(&rest[..n_tokens]).copied();
            if let Some(child) = child.filter(|&child| self.nodes[child].n_locks == 0) {
                dropped.extend(self.remove_leaf(child));
            }
        }
        dropped
    }

    fn add_leaf(&mut self, parent: NodeIdx, tokens: &[TokenId], pages: &[PageId]) -> NodeIdx {
        self.dequeue(parent);
        let leaf = self.nodes.add(Node {
            parent: Some(parent),
            namespace: self.nodes[parent].namespace,
            tokens: tokens.to_vec(),
            pages: pages.to_vec(),
            ..Node::default()
        });
        let key: Box<[TokenId]> = self.nodes[leaf].key(self.page_size).into();
        self.nodes[parent].children.insert(key, leaf);
        self.n_pages += pages.len();
        self.version += 1;
        leaf
    }

    /// Pages from the root to `node`.
    fn path_pages(&self, node: NodeIdx) -> Vec<PageId> {
        let path = std::iter::successors(Some(node), |&idx| self.nodes[idx].parent);
        let path: Vec<NodeIdx> = path.collect();
        path.iter()
            .rev()
            .flat_map(|&idx| self.nodes[idx].pages.iter().copied())
            .collect()
    }

    fn lock(&mut self, node: NodeIdx) -> Guard {
        self.n_guards += 1;
        let mut next = Some(node);
        while let Some(idx) = next {
            let node = &mut self.nodes[idx];
            node.n_locks += 1;
            next = node.parent;
            if node.n_locks == 1 {
                self.n_protected += node.pages.len();
                self.dequeue(idx);
            }
        }
        Guard { node }
    }

    /// Marks the path to `node` as used now.
    fn touch(&mut self, node: NodeIdx) {
        self.clock += 1;
        let mut next = Some(node);
        while let Some(idx) = next {
            let node = &mut self.nodes[idx];
            node.last_used = self.clock;
            node.n_hits += 1;
            next = node.parent;
            self.settle_rank(idx);
        }
    }

    fn raise_priority(&mut self, node: NodeIdx, priority: u8) {
        let mut next = Some(node);
        while let Some(idx) = next {
            let node = &mut self.nodes[idx];
            node.priority = node.priority.max(priority);
            next = node.parent;
        }
    }
}
