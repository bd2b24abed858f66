//! Token prefixes to KV pages, as a radix tree with locks and eviction.
//!
//! A *page* holds the KV of `page_size` consecutive tokens; here it is only a number. The tree remembers which page holds
//! which tokens after which others, so that a new sequence starts with the pages of the longest prefix that an earlier
//! one has computed. The crate knows no tensors, no clocks (time is a count of operations) and no threads.
//!
//! Words: a *guard* locks the path from the root to a node, whose pages cannot be evicted while it lives; pages below no
//! guard are *evictable*, the others *protected*. A *tail* is a page of which only the first tokens match.
//!
//! After the radix attention of SGLang (Zheng et al. 2024), with whole pages on the edges.

mod cache;
mod check;
mod eviction;
mod nodes;
#[cfg(test)]
mod tests;

pub use cache::{Guard, Match, Published, RadixCache, Tail};
pub use check::Imbalance;
pub use eviction::Policy;

/// Index of a token in its vocabulary.
pub type TokenId = u32;

/// A page of the KV pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);
