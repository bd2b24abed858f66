//! Which tokens run next, and in which pages: a pure function of the state, without clock, channel or device, so that a
//! trace of submissions and tokens replays to the same batches.
//!
//! A step is every running decode, then chunks of prefill up to the token budget, then newcomers while budget and pages
//! last. When pages run out, the youngest running sequence is *preempted*: what it computed stays in the cache as long as
//! it can, and it waits as plain token ids. The oldest is never preempted for a younger one, so something always ends.
//!
//! Newcomers come in the order of their response ratio (HRRN): tokens processed while waiting over tokens to compute. If
//! the first of them does not fit, nobody overtakes it. One whose prefix a running prefill is about to share waits for it.

mod admission;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lmrun_model::Outputs;
use lmrun_radix_cache::PageId;

use crate::memory::{Memory, Retired};
use crate::{RequestId, TokenId};
use admission::Reservation;
pub(crate) use sequence::{Lane, NO_LOGITS, Sequence};

/// Rows of logits that scoring may ask for in one step: they are the size of the vocabulary each.
const MAX_SCORED_ROWS: usize = 128;

/// The scheduler's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Prefill tokens a step, less the decodes.
    pub(crate) max_batch_tokens: usize,
    /// Sequences that run at once.
    pub(crate) max_running: usize,
}

/// Consecutive positions of one lane that run in this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedSpan {
    pub(crate) id: RequestId,
    pub(crate) lane_idx: usize,
    /// The first position.
    pub(crate) start: usize,
    pub(crate) n_tokens: usize,
    pub(crate) outputs: Outputs,
}

/// The first tokens of a page, to be copied before the step, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub(crate) from: PageId,
    pub(crate) to: PageId,
    pub(crate) n_tokens: usize,
}

/// One step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) copies: Vec<PageCopy>,
    pub(crate) spans: Vec<PlannedSpan>,
    /// Sequences that were admitted, with the tokens that the cache gave them.
    pub(crate) started: Vec<(RequestId, usize)>,
    /// Sequences that have nothing to compute.
    pub(crate) done: Vec<RequestId>,
    /// A sequence that cannot run even alone; it must be removed.
    pub(crate) stuck: Option<RequestId>,
    /// Prefill tokens that may still be added.
    n_budget: usize,
    n_scored_rows: usize,
}

/// Everything that waits and runs, and the pages.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    memory: Memory,
    /// By age: an id is given out once, in order.
    running: BTreeMap<RequestId, Sequence>,
    waiting: BTreeMap<RequestId, Sequence>,
    reservation: Reservation,
    n_processed: u64,
    n_preemptions: u64,
}

impl Scheduler {
    pub(crate) fn new(limits: Limits, memory: Memory) -> Self {
        Self {
            limits,
            memory,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reservation: Reservation::default(),
            n_processed: 0,
            n_preemptions: 0,
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn n_running(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn n_preemptions(&self) -> u64 {
        self.n_preemptions
    }

    pub(crate) fn n_processed(&self) -> u64 {
        self.n_processed
    }

    /// Pages that running sequences hold.
    pub(crate) fn n_held(&self) -> usize {
        self.running.values().map(Sequence::n_held).sum()
    }

    /// A lane of a running sequence.
    pub(crate) fn lane(&self, id: RequestId, lane_idx: usize) -> &Lane {
        &self.running[&id].lanes[lane_idx]
    }

    /// Whether a running sequence has nothing left to compute in any lane; none if it does not run.
    pub(crate) fn is_computed(&self, id: RequestId) -> Option<bool> {
        let lanes = &self.running.get(&id)?.lanes;
        Some(
            lanes
                .iter()
                .all(|lane| lane.is_done || lane.is_active && lane.n_pending() == 0),
        )
    }

    /// Lets a sequence wait for its turn.
    pub(crate) fn add(&mut self, mut sequence: Sequence) {
        sequence.waiting_since = self.n_processed;
        self.waiting.insert(sequence.id, sequence);
    }

    /// Forgets a sequence, whatever its state; what it computed stays in the cache, evictable.
    pub(crate) fn remove(&mut self, id: RequestId) {
        self.waiting.remove(&id);
        if let Some(mut sequence) = self.running.remove(&id) {
            self.vacate(&mut sequence);
            self.reservation.one_ended();
        }
    }

    /// Appends output tokens to a running generation; logits are wanted from position `logits_from` on.
    pub(crate) fn extend(&mut self, id: RequestId, tokens: &[TokenId], logits_from: usize) {
        let sequence = self
            .running
            .get_mut(&id)
            .expect("only running sequences give tokens");
        sequence.n_left = sequence.n_left.saturating_sub(tokens.len());
        let lane = &mut sequence.lanes[0];
        lane.tokens.extend_from_slice(tokens);
        lane.logits_from = logits_from;
    }

    /// Drops the tokens of a running generation from position `end` on. They were never sure, so they are in no page of
    /// the tree that the sequence uses.
    pub(crate) fn cut(&mut self, id: RequestId, end: usize) {
        let sequence = self
            .running
            .get_mut(&id)
            .expect("only running sequences are cut");
        let lane = &mut sequence.lanes[0];
        sequence.n_left += lane.end().saturating_sub(end);
        lane.tokens.truncate(end);
        lane.n_computed = lane.n_computed.min(end);
        let n_kept = self.memory.pages_of(end).max(lane.n_shared);
        let dropped = lane.pages.split_off(n_kept.min(lane.pages.len()));
        self.memory.free(dropped);
    }

    /// Drops the tokens of a running generation from position `end` on, and has the logits before it computed again. The
    /// pages may be the tree's by now, so the sequence waits to be admitted anew, with what the cache has of it.
    pub(crate) fn rewind(&mut self, id: RequestId, end: usize) {
        let mut sequence = self
            .running
            .remove(&id)
            .expect("only running sequences are rewound");
        self.vacate(&mut sequence);
        let lane = &mut sequence.lanes[0];
        sequence.n_left += lane.end().saturating_sub(end);
        lane.tokens.truncate(end);
        lane.logits_from = end - 1;
        self.wait(sequence);
    }

    /// Positions of a running sequence's root lane that have KV; none if it does not run.
    pub(crate) fn n_computed(&self, id: RequestId) -> Option<usize> {
        Some(self.running.get(&id)?.root().n_computed)
    }

    /// Forms the next step. Preempts what must be, admits what may be.
    pub(crate) fn plan(&mut self) -> Plan {
        let mut plan = Plan {
            n_budget: self.limits.max_batch_tokens,
            ..Plan::default()
        };
        let n_preemptions = self.n_preemptions;
        for is_decode in [true, false] {
            let of_kind = self
                .running
                .values()
                .filter(|it| it.is_decoding() == is_decode);
            let ids: Vec<RequestId> = of_kind.map(|sequence| sequence.id).collect();
            for id in ids {
                self.plan_sequence(id, &mut plan);
            }
        }
        if self.n_preemptions == n_preemptions {
            self.admit(&mut plan);
        }
        if plan.spans.is_empty() && plan.done.is_empty() {
            // Submissions are checked to fit alone, so this is unreachable; refusing one beats hanging.
            plan.stuck = self
                .running
                .keys()
                .chain(self.waiting.keys())
                .next()
                .copied();
        }
        plan
    }

    /// Takes note that a plan has run.
    pub(crate) fn complete(&mut self, plan: &Plan) {
        for span in &plan.spans {
            self.n_processed += span.n_tokens as u64;
            let sequence = self
                .running
                .get_mut(&span.id)
                .expect("planned sequences run");
            sequence.lanes[span.lane_idx].n_computed += span.n_tokens;
            if span.lane_idx == 0 && !sequence.is_prefilled {
                sequence.is_prefilled = sequence.lanes[0].n_pending() == 0;
                share_whole_pages(&mut self.memory, sequence);
            }
            let freed = sequence.retire_lanes();
            self.memory.free(freed);
        }
        if cfg!(debug_assertions) {
            self.memory.assert_balance(self.n_held());
        }
    }

    /// After a failure that may have spoilt any page: forgets `lost` and every page, lets the rest wait to be computed
    /// again.
    pub(crate) fn rebuild(&mut self, lost: &[RequestId], memory: Memory) {
        self.memory = memory;
        let mut running = std::mem::take(&mut self.running);
        running.retain(|id, _| !lost.contains(id));
        for mut sequence in running.into_values() {
            // The guard's tree is gone with its memory.
            sequence.guard = None;
            for lane in &mut sequence.lanes {
                lane.deactivate();
            }
            self.wait(sequence);
        }
        self.waiting
            .values_mut()
            .for_each(|sequence| sequence.peeked = None);
    }

    /// Adds what a running sequence can run to the plan.
    fn plan_sequence(&mut self, id: RequestId, plan: &mut Plan) {
        let n_lanes = self
            .running
            .get(&id)
            .map_or(0, |sequence| sequence.lanes.len());
        for lane_idx in 0..n_lanes {
            // A lane that could not get its pages has preempted its own sequence.
            if !self.running.contains_key(&id) {
                return;
            }
            if self.activate(id, lane_idx, plan) {
                self.plan_lane(id, lane_idx, plan);
            }
        }
    }

    /// Gives a lane its block table, if its parent is computed; false if it has none.
    fn activate(&mut self, id: RequestId, lane_idx: usize, plan: &mut Plan) -> bool {
        let page_size = self.memory.page_size();
        let sequence = &self.running[&id];
        let lane = &sequence.lanes[lane_idx];
        if lane.is_done || lane.is_active {
            return lane.is_active;
        }
        let Some(parent_idx) = lane.parent else {
            return false;
        };
        let parent = &sequence.lanes[parent_idx];
        if !parent.is_active || parent.n_pending() > 0 || plan.n_budget == 0 {
            return false;
        }
        let (n_whole, n_rest) = (lane.start / page_size, lane.start % page_size);
        let mut pages = parent.pages[..n_whole].to_vec();
        if n_rest > 0 {
            let from = parent.pages[n_whole];
            let Some(copies) = self.obtain(id, 1, plan) else {
                return false;
            };
            plan.copies.push(PageCopy {
                from,
                to: copies[0],
                n_tokens: n_rest,
            });
            pages.extend(copies);
        }
        let sequence = self
            .running
            .get_mut(&id)
            .expect("it got its page, so it still runs");
        let lane = &mut sequence.lanes[lane_idx];
        (lane.pages, lane.n_shared, lane.is_active) = (pages, n_whole, true);
        true
    }

    /// Plans as much of an active lane as the budget allows.
    fn plan_lane(&mut self, id: RequestId, lane_idx: usize, plan: &mut Plan) {
        let sequence = &self.running[&id];
        let is_decode = sequence.is_decoding();
        let lane = &sequence.lanes[lane_idx];
        let is_scored = lane.parent.is_some();
        let n_allowed = match (is_decode, is_scored) {
            (true, _) => usize::MAX,
            (false, false) => plan.n_budget,
            (false, true) => plan.n_budget.min(MAX_SCORED_ROWS - plan.n_scored_rows),
        };
        let n_tokens = lane.n_pending().min(n_allowed);
        if n_tokens == 0 {
            return;
        }
        let start = lane.n_computed;
        let n_missing = self
            .memory
            .pages_of(start + n_tokens)
            .saturating_sub(lane.pages.len());
        let outputs = outputs(lane, start, n_tokens);
        let Some(pages) = self.obtain(id, n_missing, plan) else {
            return;
        };
        let sequence = self
            .running
            .get_mut(&id)
            .expect("it got its pages, so it still runs");
        sequence.lanes[lane_idx].pages.extend(pages);
        plan.n_budget = plan.n_budget.saturating_sub(n_tokens);
        plan.n_scored_rows += if is_scored { n_tokens } else { 0 };
        plan.spans.push(PlannedSpan {
            id,
            lane_idx,
            start,
            n_tokens,
            outputs,
        });
    }

    /// Pages for a running sequence, at the cost of the youngest ones; none if it was the youngest itself, which then
    /// waits again.
    fn obtain(&mut self, id: RequestId, n_pages: usize, plan: &mut Plan) -> Option<Vec<PageId>> {
        loop {
            if let Some(pages) = self.memory.allocate(n_pages) {
                return Some(pages);
            }
            let youngest = *self
                .running
                .keys()
                .next_back()
                .expect("the sequence itself runs");
            self.preempt(youngest, plan);
            if youngest == id {
                return None;
            }
        }
    }

    /// Sends a running sequence back to wait and takes it out of the plan. A copy planned for it may stay: its target
    /// is written by its next owner after all copies.
    fn preempt(&mut self, id: RequestId, plan: &mut Plan) {
        let mut sequence = self
            .running
            .remove(&id)
            .expect("only running sequences are preempted");
        plan.spans.retain(|span| span.id != id);
        self.vacate(&mut sequence);
        self.n_preemptions += 1;
        self.reservation.one_preempted();
        self.wait(sequence);
    }

    fn wait(&mut self, mut sequence: Sequence) {
        sequence.is_prefilled = false;
        sequence.waiting_since = self.n_processed;
        sequence.peeked = None;
        self.waiting.insert(sequence.id, sequence);
    }

    /// Gives up all pages of a sequence; the root lane's stay in the cache.
    fn vacate(&mut self, sequence: &mut Sequence) {
        for lane in &mut sequence.lanes[1..] {
            self.memory.free(lane.deactivate());
        }
        let root = &mut sequence.lanes[0];
        self.memory.retire(Retired {
            namespace: sequence.namespace,
            tokens: &root.tokens[..root.n_computed],
            pages: std::mem::take(&mut root.pages),
            n_shared: root.n_shared,
            guard: sequence.guard.take(),
        });
        root.deactivate();
    }
}

/// The rows of logits that a span gives.
fn outputs(lane: &Lane, start: usize, n_tokens: usize) -> Outputs {
    match lane.logits_from.saturating_sub(start) {
        0 => Outputs::All,
        first if first >= n_tokens => Outputs::None,
        first if first + 1 == n_tokens => Outputs::Last,
        first => Outputs::From(first),
    }
}

/// Puts the whole pages that a prefill has computed into the tree, for others to use at once; those of tokens that
/// logits not yet read may still replace stay the sequence's own.
fn share_whole_pages(memory: &mut Memory, sequence: &mut Sequence) {
    let root = &mut sequence.lanes[0];
    let n_sure = root.n_computed.min(root.logits_from.saturating_add(1));
    let n_pages = n_sure / memory.page_size();
    if n_pages <= root.n_shared {
        return;
    }
    let tokens = &root.tokens[..n_pages * memory.page_size()];
    let pages = &mut root.pages[..n_pages];
    if memory.publish(&mut sequence.guard, sequence.namespace, tokens, pages) {
        root.n_shared = n_pages;
    }
}
