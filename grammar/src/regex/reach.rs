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

/// Predecessors of each state, by what the step between costs. [n_states]
struct Backward {
    free: Vec<Vec<u32>>,
    at_end: Vec<Vec<u32>>,
    by_byte: Vec<Vec<u32>>,
    matching: Vec<u32>,
}

impl Backward {
    fn new(nfa: &NFA) -> Self {
        let none = || vec![Vec::new(); nfa.states().len()];
        let (mut free, mut at_end, mut by_byte) = (none(), none(), none());
        let mut matching = Vec::new();
        for (from, state) in nfa.states().iter().enumerate() {
            let from = from as u32;
            match state {
                State::ByteRange { trans } => by_byte[trans.next.as_usize()].push(from),
                State::Sparse(sparse) => {
                    for trans in &sparse.transitions {
                        by_byte[trans.next.as_usize()].push(from);
                    }
                }
                State::Dense(dense) => {
                    for next in dense
                        .transitions
                        .iter()
                        .filter(|next| next.as_usize() != FAIL)
                    {
                        by_byte[next.as_usize()].push(from);
                    }
                }
                State::Look {
                    look: Look::End,
                    next,
                } => at_end[next.as_usize()].push(from),
                State::Look { .. } | State::Fail => {}
                State::Union { alternates } => {
                    alternates
                        .iter()
                        .for_each(|next| free[next.as_usize()].push(from));
                }
                State::BinaryUnion { alt1, alt2 } => {
                    free[alt1.as_usize()].push(from);
                    free[alt2.as_usize()].push(from);
                }
                State::Capture { next, .. } => free[next.as_usize()].push(from),
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
        for &from in free[state as usize].iter().chain(&at_end[state as usize]) {
            if distances[from as usize] == UNREACHABLE {
                distances[from as usize] = 0;
                queue.push_back(from);
            }
        }
    }
    let mut queue = VecDeque::from(settled);
    while let Some(state) = queue.pop_front() {
        let distance = distances[state as usize];
        for &from in &free[state as usize] {
            if distances[from as usize] > distance {
                distances[from as usize] = distance;
                queue.push_front(from);
            }
        }
        for &from in &by_byte[state as usize] {
            if distances[from as usize] > distance + 1 {
                distances[from as usize] = distance + 1;
                queue.push_back(from);
            }
        }
    }
    distances
}
