//! Who starts next, and whether there is room for it.

use crate::RequestId;
use crate::scheduler::{PageCopy, Plan, Scheduler, Sequence};

/// The most output tokens for which room is kept: requests without a limit rarely use theirs.
const MAX_RESERVED_TOKENS: usize = 512;

/// Which share of the outputs still allowed is expected to come, and has room kept for it.
#[derive(Debug)]
pub(super) struct Reservation {
    share: f32,
}

impl Reservation {
    const START: f32 = 0.7;
    const LEAST: f32 = 0.1;
    const STEP: f32 = 0.02;

    /// A sequence ended without trouble: expect a little less.
    pub(super) fn one_ended(&mut self) {
        self.share = (self.share - Self::STEP).max(Self::LEAST);
    }

    /// Too little was expected.
    pub(super) fn one_preempted(&mut self) {
        self.share = Self::START;
    }

    /// Output tokens to keep room for.
    fn tokens(&self, sequence: &Sequence) -> usize {
        (sequence.n_left.min(MAX_RESERVED_TOKENS) as f32 * self.share).ceil() as usize
    }
}

impl Default for Reservation {
    fn default() -> Self {
        Self { share: Self::START }
    }
}

impl Scheduler {
    /// Starts waiting sequences, best response ratio first, while budget and pages last.
    pub(super) fn admit(&mut self, plan: &mut Plan) {
        if plan.n_budget == 0 || self.waiting.is_empty() || self.is_full() {
            return;
        }
        for id in self.order_of_waiting() {
            if plan.n_budget == 0 || self.is_full() {
                return;
            }
            if self.is_deferred(&self.waiting[&id]) {
                continue;
            }
            if !self.start(id, plan) {
                return;
            }
            self.plan_sequence(id, plan);
        }
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.limits.max_running
    }

    /// By response ratio, then by age.
    fn order_of_waiting(&mut self) -> Vec<RequestId> {
        let version = self.memory.version();
        let mut order: Vec<(f64, RequestId)> = Vec::with_capacity(self.waiting.len());
        for sequence in self.waiting.values_mut() {
            let root = &sequence.lanes[0];
            let n_cached = match sequence.peeked {
                Some((then, n_cached)) if then == version => n_cached,
                _ => self
                    .memory
                    .peek(sequence.namespace, &root.tokens[..root.n_reusable()]),
            };
            sequence.peeked = Some((version, n_cached));
            let n_missing = root.tokens.len() - n_cached;
            let n_waited = sequence.n_waited + self.n_processed - sequence.waiting_since;
            order.push((n_waited as f64 / (n_missing + 1) as f64, sequence.id));
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether a running prefill is about to share enough of its prefix to be worth the wait.
    fn is_deferred(&self, sequence: &Sequence) -> bool {
        if !self.memory.has_cache() {
            return false;
        }
        let root = sequence.root();
        let page_size = self.memory.page_size();
        let n_cached = sequence.peeked.map_or(0, |(_, n_cached)| n_cached);
        let n_missing = root.tokens.len() - n_cached;
        let leaders = self
            .running
            .values()
            .filter(|leader| !leader.is_prefilled && leader.namespace == sequence.namespace);
        leaders.into_iter().any(|leader| {
            let pairs = leader
                .root()
                .tokens
                .iter()
                .zip(&root.tokens[..root.n_reusable()]);
            let n_common = pairs.take_while(|(a, b)| a == b).count() / page_size * page_size;
            let n_gained = n_common.saturating_sub(n_cached);
            n_gained >= page_size && 4 * n_gained >= n_missing
        })
    }

    /// Moves a waiting sequence to the running with what the cache has of it; false if there is no room.
    fn start(&mut self, id: RequestId, plan: &mut Plan) -> bool {
        let mut sequence = self.waiting.remove(&id).expect("it waits");
        let n_cached = if is_in_cache(self, &sequence) {
            plan.done.push(id);
            sequence.root().tokens.len()
        } else {
            let Some(n_cached) = self.take_prefix(&mut sequence, plan) else {
                self.waiting.insert(id, sequence);
                return false;
            };
            n_cached
        };
        sequence.n_waited += self.n_processed - sequence.waiting_since;
        plan.started.push((id, n_cached));
        self.running.insert(id, sequence);
        true
    }

    /// Gives the root lane its cached pages, if there is room for all that will follow.
    fn take_prefix(&mut self, sequence: &mut Sequence, plan: &mut Plan) -> Option<usize> {
        let (page_size, n_copies) = (self.memory.page_size(), plan.copies.len());
        let root = &mut sequence.lanes[0];
        let found = self
            .memory
            .find(sequence.namespace, &root.tokens[..root.n_reusable()]);
        let (guard, pages, tail) = match found {
            None => (None, Vec::new(), None),
            Some(found) => (Some(found.guard), found.pages, found.tail),
        };
        root.n_shared = pages.len();
        root.n_computed = pages.len() * page_size;
        root.pages = pages;
        root.is_active = true;
        sequence.guard = guard;
        if let Some(tail) = tail {
            if let Some(copies) = self.memory.allocate(1) {
                plan.copies.push(PageCopy {
                    from: tail.page,
                    to: copies[0],
                    n_tokens: tail.n_tokens,
                });
                let root = &mut sequence.lanes[0];
                root.n_computed += tail.n_tokens;
                root.pages.extend(copies);
            }
            self.memory.release(tail.guard);
        }
        if self.has_room_for(sequence) {
            return Some(sequence.root().n_computed);
        }
        plan.copies.truncate(n_copies);
        self.vacate_unstarted(sequence);
        None
    }

    /// Whether all that runs, and this, can be expected to fit. Alone, a sequence was checked to fit.
    fn has_room_for(&self, sequence: &Sequence) -> bool {
        let page_size = self.memory.page_size();
        let expected = |sequence: &Sequence| {
            sequence.n_pages_missing(page_size)
                + self.memory.pages_of(self.reservation.tokens(sequence))
        };
        let n_expected: usize = self.running.values().map(expected).sum();
        self.running.is_empty() || n_expected + expected(sequence) <= self.memory.n_available()
    }

    /// Takes back what [`Scheduler::take_prefix`] gave. The tail's copy has not been made, so it is not kept.
    fn vacate_unstarted(&mut self, sequence: &mut Sequence) {
        let held = sequence.lanes[0].deactivate();
        self.memory.free(held);
        if let Some(guard) = sequence.guard.take() {
            self.memory.release(guard);
        }
    }
}

/// Whether nothing is wanted but to have the prompt cached, and it is.
fn is_in_cache(scheduler: &Scheduler, sequence: &Sequence) -> bool {
    let root = sequence.root();
    let is_whole = sequence.lanes.len() == 1 && root.n_reusable() == root.tokens.len();
    is_whole && scheduler.memory.peek(sequence.namespace, &root.tokens) == root.tokens.len()
}
