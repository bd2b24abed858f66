//! Automata as tables, with the fewest bytes from each state to acceptance.

use std::collections::VecDeque;
use std::sync::Arc;

/// No state.
pub(crate) const NONE: u32 = u32::MAX;

/// What a [`Table`]'s states lead to.
#[derive(Debug)]
pub(crate) struct Transitions {
    /// The class of each byte. [256]
    pub(crate) classes: [u8; 256],
    pub(crate) n_classes: usize,
    /// The next state or `NONE`. [n_states, n_classes]
    pub(crate) next: Vec<u32>,
}

/// An automaton whose first state is 0.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    transitions: Arc<Transitions>,
    /// Fewest bytes to an accepting state, `NONE` if there are none. [n_states]
    distances: Arc<[u32]>,
}

impl Table {
    pub(crate) fn new(transitions: Arc<Transitions>, accepts: impl Fn(usize) -> bool) -> Self {
        let n_classes = transitions.n_classes;
        let n_states = transitions.next.len() / n_classes;
        let mut before = vec![Vec::new(); n_states];
        for (cell, &next) in transitions.next.iter().enumerate() {
            if next != NONE {
                before[next as usize].push((cell / n_classes) as u32);
            }
        }
        let mut distances = vec![NONE; n_states];
        let mut queue: VecDeque<u32> = (0..n_states as u32)
            .filter(|&state| accepts(state as usize))
            .collect();
        for &state in &queue {
            distances[state as usize] = 0;
        }
        while let Some(state) = queue.pop_front() {
            for &from in &before[state as usize] {
                if distances[from as usize] == NONE {
                    distances[from as usize] = distances[state as usize] + 1;
                    queue.push_back(from);
                }
            }
        }
        Self {
            transitions,
            distances: distances.into(),
        }
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        (self.transitions.next.len() + self.distances.len()) * size_of::<u32>()
    }

    /// Whether it accepts nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.distances[0] == NONE
    }

    /// The state after `byte`, or `None` where nothing accepted goes on so.
    pub(crate) fn step(&self, state: u32, byte: u8) -> Option<u32> {
        let Transitions {
            classes,
            n_classes,
            next,
        } = &*self.transitions;
        let next = next[state as usize * n_classes + usize::from(classes[usize::from(byte)])];
        (next != NONE && self.distances[next as usize] != NONE).then_some(next)
    }

    /// Fewest bytes to acceptance; 0 where the bytes so far are accepted.
    pub(crate) fn distance(&self, state: u32) -> usize {
        self.distances[state as usize] as usize
    }
}
