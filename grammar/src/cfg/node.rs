//! The calls that are open in an output, and what they return to.
//!
//! A node stands for one rule begun at one byte; all callers that began it there share it, which
//! keeps the work polynomial however ambiguous the grammar is. Nodes are never changed, so states
//! share them freely. A call at the end of a rule returns to where that rule returns, so right
//! recursion opens nothing.
//!
//! Source: E. Scott and A. Johnstone, "GLL parsing", ENTCS 253(7), 2010.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::cfg::compile::{PositionId, RuleId};

/// A rule begun at one byte of an output.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) rule: RuleId,
    /// Where its end leads, all different.
    pub(crate) returns: Vec<Return>,
    /// Whether its end can be the output's.
    pub(crate) accepts: bool,
    /// Fewest bytes from its end to the output's.
    pub(crate) cost: usize,
    /// Nodes on the shortest way to the output's end.
    pub(crate) depth: usize,
    /// A digest of all the above. 128 bits of it stand for the node: that two different ones agree
    /// is not to be expected before 2^64 of them.
    pub(crate) id: u128,
}

/// A position to go on at, in the node that called.
#[derive(Clone, Debug)]
pub(crate) struct Return {
    pub(crate) position: PositionId,
    pub(crate) node: Arc<Node>,
}

impl Node {
    /// `cost_from` gives the fewest bytes from a return to the output's end.
    pub(crate) fn new(
        rule: RuleId,
        mut returns: Vec<Return>,
        accepts: bool,
        cost_from: impl Fn(&Return) -> usize,
    ) -> Self {
        returns.sort_unstable_by_key(Return::key);
        returns.dedup_by_key(|to| to.key());
        let cost = returns.iter().map(cost_from).min().unwrap_or(0);
        let depth = returns.iter().map(|to| to.node.depth).min().unwrap_or(0);
        let id = digest(|hasher| {
            (rule, accepts).hash(hasher);
            returns.iter().for_each(|to| to.key().hash(hasher));
        });
        Self {
            rule,
            accepts,
            cost: if accepts { 0 } else { cost },
            depth: if accepts { 0 } else { depth + 1 },
            id,
            returns,
        }
    }
}

impl Return {
    pub(crate) fn key(&self) -> (PositionId, u128) {
        (self.position, self.node.id)
    }
}

/// Long chains of nodes are freed one after another, not one within another.
impl Drop for Node {
    fn drop(&mut self) {
        let mut orphans = std::mem::take(&mut self.returns);
        while let Some(orphan) = orphans.pop() {
            if let Some(mut node) = Arc::into_inner(orphan.node) {
                orphans.append(&mut node.returns);
            }
        }
    }
}

/// 128 bits of what `feed` hashes.
pub(crate) fn digest(feed: impl Fn(&mut DefaultHasher)) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        feed(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
