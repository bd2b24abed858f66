//! What the scheduler knows of a request: which tokens need KV, and which positions' logits are wanted.
//!
//! A *lane* is a run of tokens with one block table. A generation is one lane that grows; a scoring request is a tree of
//! them, one for each stretch of tokens between branchings, with the prompt as its root.

use lmrun_radix_cache::{Guard, PageId};

use crate::{RequestId, TokenId};

/// No position's logits are wanted.
pub(crate) const NO_LOGITS: usize = usize::MAX;

/// Tokens with one block table.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The lane whose tokens come before; none for the root.
    pub(crate) parent: Option<usize>,
    /// The position of the first of `tokens`.
    pub(crate) start: usize,
    /// The lane's own tokens.
    pub(crate) tokens: Vec<TokenId>,
    /// Logits are wanted from this position on.
    pub(crate) logits_from: usize,
    /// Positions with KV, those of the lanes before it included.
    pub(crate) n_computed: usize,
    /// The block table from position 0.
    pub(crate) pages: Vec<PageId>,
    /// How many of `pages`, from the front, are the tree's or another lane's.
    pub(crate) n_shared: usize,
    /// Whether it has a block table.
    pub(crate) is_active: bool,
    /// Whether neither it nor any lane below it is needed again.
    pub(crate) is_done: bool,
}

impl Lane {
    /// A lane with nothing computed.
    pub(crate) fn new(
        parent: Option<usize>,
        start: usize,
        tokens: Vec<TokenId>,
        logits_from: usize,
    ) -> Self {
        Self {
            parent,
            start,
            tokens,
            logits_from,
            n_computed: start,
            pages: Vec::new(),
            n_shared: 0,
            is_active: false,
            is_done: false,
        }
    }

    /// The position after the last token.
    pub(crate) fn end(&self) -> usize {
        self.start + self.tokens.len()
    }

    /// Tokens without KV.
    pub(crate) fn n_pending(&self) -> usize {
        self.end() - self.n_computed
    }

    /// Tokens that may be read from the cache: what comes after must be computed for its logits.
    pub(crate) fn n_reusable(&self) -> usize {
        self.tokens.len().min(self.logits_from)
    }

    /// Gives up the block table; returns the pages that only this lane held.
    pub(crate) fn deactivate(&mut self) -> Vec<PageId> {
        self.is_active = false;
        self.n_computed = self.start;
        let held = self.pages.split_off(self.n_shared.min(self.pages.len()));
        self.pages.clear();
        self.n_shared = 0;
        held
    }
}

/// A request as the scheduler sees it.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) namespace: u64,
    /// The root lane first, each after its parent.
    pub(crate) lanes: Vec<Lane>,
    /// Output tokens that may still come.
    pub(crate) n_left: usize,
    /// Protects the tree's part of the root lane.
    pub(crate) guard: Option<Guard>,
    /// Whether the root lane has been computed once since it was admitted: from then on it decodes.
    pub(crate) is_prefilled: bool,
    /// Tokens that the engine processed while this waited, up to `waiting_since`.
    pub(crate) n_waited: u64,
    /// The scheduler's count of processed tokens when it began to wait.
    pub(crate) waiting_since: u64,
    /// The cached tokens found last, with the cache's version then.
    pub(crate) peeked: Option<(u64, usize)>,
}

impl Sequence {
    /// A sequence that has not run.
    pub(crate) fn new(id: RequestId, namespace: u64, lanes: Vec<Lane>, n_left: usize) -> Self {
        debug_assert!(
            lanes.first().is_some_and(|root| !root.tokens.is_empty()),
            "a prompt"
        );
        Self {
            id,
            namespace,
            lanes,
            n_left,
            guard: None,
            is_prefilled: false,
            n_waited: 0,
            waiting_since: 0,
            peeked: None,
        }
    }

    pub(crate) fn root(&self) -> &Lane {
        &self.lanes[0]
    }

    /// Whether its next step computes a position or a few, not a prompt.
    pub(crate) fn is_decoding(&self) -> bool {
        self.is_prefilled && self.lanes.len() == 1
    }

    /// Pages that only this sequence holds.
    pub(crate) fn n_held(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lane.pages.len() - lane.n_shared)
            .sum()
    }

    /// Pages that its known tokens still need.
    pub(crate) fn n_pages_missing(&self, page_size: usize) -> usize {
        let missing = |lane: &Lane| {
            let n_before = if lane.is_active {
                lane.pages.len()
            } else {
                lane.start / page_size
            };
            lane.end().div_ceil(page_size).saturating_sub(n_before)
        };
        self.lanes
            .iter()
            .filter(|lane| !lane.is_done)
            .map(missing)
            .sum()
    }

    /// Marks lanes that have nothing to run and nothing unfinished below; returns the pages that only they held.
    pub(crate) fn retire_lanes(&mut self) -> Vec<PageId> {
        let mut freed = Vec::new();
        let mut has_unfinished_child = vec![false; self.lanes.len()];
        for lane_idx in (1..self.lanes.len()).rev() {
            let lane = &mut self.lanes[lane_idx];
            let is_computed = lane.is_active && lane.n_pending() == 0;
            if !lane.is_done && is_computed && !has_unfinished_child[lane_idx] {
                lane.is_done = true;
                freed.extend(lane.deactivate());
            }
            if !lane.is_done
                && let Some(parent) = lane.parent
            {
                has_unfinished_child[parent] = true;
            }
        }
        freed
    }
}
