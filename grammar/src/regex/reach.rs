//! How far each state of an NFA is from a match: what makes dead states visible before they are
//! entered.
//!
//! Anchors are exact here. Once a byte was consumed `Start` never holds again, and `End` holds only
//! if a match follows without another byte; so no path through an anchor is counted that no string
//! takes.

use std::collections::VecDeque;

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::Look;

/// The distance of a state from which no match is reachable.
pub(crate) const UNREACHABLE: u32 = u32::MAX;

/// The state that a dense state's missing transitions lead to.
const FAIL: usize = 0;

/// Predecessors of each state, by what the step between costs.
struct Backward {
    free: Edges,
    at_end: Edges,
    by_byte: Edges,
    matching: Vec<u32>,
}

/// Steps by where they lead, in flat lists: an NFA has thousands of states with one or two each.
#[derive(Debug)]
pub(crate) struct Edges {
    /// The last step added to each state, `NO_EDGE` if there is none; grows with what is added.
    last: Vec<u32>,
    /// Where a step comes from, and the step added before it. [n_edges]
    edges: Vec<(u32, u32)>,
}

const NO_EDGE: u32 = u32::MAX;

impl Edges {
    pub(crate) fn new(n_states: usize) -> Self {
        Self {
            last: vec![NO_EDGE; n_states],
            edges: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, from: u32, to: u32) {
        if self.last.len() <= to as usize {
            self.last.resize(to as usize + 1, NO_EDGE);
        }
        let last = &mut self.last[to as usize];
        self.edges.push((from, *last));
        *last = self.edges.len() as u32 - 1;
    }

    pub(crate) fn leading_to(&self, to: u32) -> impl Iterator<Item = u32> {
        let edge = |idx: u32| (idx != NO_EDGE).then(|| self.edges[idx as usize]);
        let last = self.last.get(to as usize).copied().unwrap_or(NO_EDGE);
        let edges = std::iter::successors(edge(last), move |e| edge(e.1));
        edges.map(|(from, _)| from)
    }
}

impl Backward {
    fn new(nfa: &NFA) -> Self {
        let none = || Edges::new(nfa.states().len());
        let (mut free, mut at_end, mut by_byte) = (none(), none(), none());
        let mut matching = Vec::new();
        for (from, state) in nfa.states().iter().enumerate() {
            let from = from as u32;
            match state {
                State::ByteRange { trans } => by_byte.add(from, trans.next.as_u32()),
                State::Sparse(sparse) => {
                    for trans in &sparse.transitions {
                        by_byte.add(from, trans.next.as_u32());
                    }
                }
                State::Dense(dense) => {
                    for next in dense
                        .transitions
                        .iter()
                        .filter(|next| next.as_usize() != FAIL)
                    {
                        by_byte.add(from, next.as_u32());
                    }
                }
                State::Look {
                    look: Look::End,
                    next,
                } => at_end.add(from, next.as_u32()),
                State::Look { .. } | State::Fail => {}
                State::Union { alternates } => {
                    alternates
                        .iter()
                        .for_each(|next| free.add(from, next.as_u32()));
                }
                State::BinaryUnion { alt1, alt2 } => {
                    free.add(from, alt1.as_u32());
                    free.add(from, alt2.as_u32());
                }
                State::Capture { next, .. } => free.add(from, next.as_u32()),
                State::Match { .. } => matching.push(from),
            }
        }
        Self {
            free,
            at_end,
            by_byte,
            matching,
        }
    }
}

/// For each NFA state, fewest bytes to a match once the output has begun. [n_states]
pub(crate) fn distances(nfa: &NFA) -> Vec<u32> {
    let Backward {
        free,
        at_end,
        by_byte,
        matching,
    } = Backward::new(nfa);
    let mut distances = vec![UNREACHABLE; nfa.states().len()];
    for &state in &matching {
        distances[state as usize] = 0;
    }
    // First what matches without a byte, across `End` too; then outward from there, never across
    // `End`.
    let mut queue = VecDeque::from(matching);
    let mut settled = Vec::new();
    while let Some(state) = queue.pop_front() {
        settled.push(state);
        for from in free.leading_to(state).chain(at_end.leading_to(state)) {
            if distances[from as usize] == UNREACHABLE {
                distances[from as usize] = 0;
                queue.push_back(from);
            }
        }
    }
    let mut queue = VecDeque::from(settled);
    while let Some(state) = queue.pop_front() {
        let distance = distances[state as usize];
        for from in free.leading_to(state) {
            if distances[from as usize] > distance {
                distances[from as usize] = distance;
                queue.push_front(from);
            }
        }
        for from in by_byte.leading_to(state) {
            if distances[from as usize] > distance + 1 {
                distances[from as usize] = distance + 1;
                queue.push_back(from);
            }
        }
    }
    distances
}
