//! Walks of the trie that take words in runs ([`crate::runs`]), and step by a table.
//!
//! A walk enters a hundred thousand nodes from a few dozen states. So a state has an index, and where a
//! byte led once is read from then on.

use std::hash::Hash;
use std::ops::Range;
use std::sync::PoisonError;

use foldhash::HashMap;

use crate::TokenMask;
use crate::runs::{BROKEN, Run, group};
use crate::trie::{Node, TokenTrie};

/// Nodes of a subtree from which on it is worth finding a run, which takes as long as walking some hundreds.
const MIN_SKIPPED: usize = 256;
/// Tokens from which on the masks of runs are remembered, and how many at a time.
const MIN_REMEMBERED: usize = 4096;
const MAX_TAKEN: usize = 512;

const DEAD: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// The states that a walk came to, by index, and where each byte led from them: most nodes are entered from
/// a few states.
struct Steps<S> {
    ids: HashMap<S, usize>,
    /// Each state with its run, if that was asked. [n_states]
    states: Vec<(S, Option<Run>)>,
    /// The state after each byte, `DEAD` or `UNKNOWN`. [n_states, 256]
    next: Vec<[u32; 256]>,
}

impl<S: Clone + Eq + Hash> Steps<S> {
    /// With the state 0.
    fn new(start: S, run: Run) -> Self {
        Self {
            ids: HashMap::from_iter([(start.clone(), 0)]),
            states: vec![(start, Some(run))],
            next: vec![[UNKNOWN; 256]],
        }
    }

    /// The run from a state: none, if it was not asked for where it is worth it.
    fn run<E>(
        &mut self,
        idx: usize,
        is_worth_it: bool,
        run: impl FnOnce(&S) -> Result<Run, E>,
    ) -> Result<Run, E> {
        let (state, known) = &mut self.states[idx];
        match known {
            None if is_worth_it => Ok(*known.insert(run(state)?)),
            known => Ok(known.unwrap_or(Run::NONE)),
        }
    }

    /// The state after a byte, which `step` tells the first time; `None` where that dies.
    fn after<E>(
        &mut self,
        idx: usize,
        byte: u8,
        step: impl FnOnce(&S) -> Result<Option<S>, E>,
    ) -> Result<Option<usize>, E> {
        let cell = &mut self.next[idx][usize::from(byte)];
        if *cell == UNKNOWN {
            let Some(next) = step(&self.states[idx].0)? else {
                *cell = DEAD;
                return Ok(None);
            };
            let new = self.states.len();
            let next_idx = *self.ids.entry(next.clone()).or_insert(new);
            *cell = next_idx as u32;
            if next_idx == new {
                self.states.push((next, None));
                self.next.push([UNKNOWN; 256]);
            }
        }
        let next = self.next[idx][usize::from(byte)];
        Ok((next != DEAD).then_some(next as usize))
    }
}

/// What a walk knows of the place before a node.
#[derive(Clone, Copy)]
struct Place {
    state: usize,
    /// The characters up to here, if the first run takes them.
    n_taken: Option<u8>,
}

impl Node {
    /// Whether the run before it, with `n` characters that it takes, tells of all its tokens.
    fn is_told(&self, run: Run, n: u8) -> bool {
        run.decides(self.groups)
            || run.takes(self.groups, self.most.saturating_add(n))
            || run.ends(self.groups, self.fewest.saturating_add(n))
    }
}

impl TokenTrie {
    /// Allows the tokens that `step` follows to their ends from `start`. Those that the start's `run`
    /// takes are known beforehand, and whole subtrees that a later run takes are not walked; runs
    /// must be right but may be short.
    pub(crate) fn walk_in_runs<C, S: Clone + Eq + Hash, E>(
        &self,
        context: &mut C,
        start: S,
        mut step: impl FnMut(&mut C, &S, u8) -> Result<Option<S>, E>,
        mut run: impl FnMut(&mut C, &S) -> Result<Run, E>,
        mask: &mut TokenMask,
    ) -> Result<(), E> {
        let first = run(context, &start)?;
        self.add_taken(first, mask);
        let mut steps = Steps::new(start, first);
        let start = Place {
            state: 0,
            n_taken: Some(0),
        };
        // By depth.
        let mut places = vec![start; self.max_depth + 1];
        // The tokens from here to the node are allowed: what dies is left out when it is met.
        let mut alive_from = 0;
        let n_nodes = self.nodes.len() - 1;
        let mut idx = 0;
        while idx < n_nodes {
            let node = &self.nodes[idx];
            let (depth, end) = (node.depth as usize, node.subtree_end as usize);
            let Place { state, n_taken } = places[depth];
            let is_told = n_taken.is_some_and(|n| node.is_told(first, n));
            if !is_told
                && node.groups & BROKEN == 0
                && steps
                    .run(state, end - idx >= MIN_SKIPPED, |state| run(context, state))?
                    .takes(node.groups, node.most)
            {
                idx = end;
                continue;
            }
            let next = match is_told {
                true => None,
                false => steps.after(state, node.byte, |state| step(context, state, node.byte))?,
            };
            if let Some(state) = next {
                let n_taken = n_taken.filter(|_| first.groups & group(node.byte) != 0);
                places[depth + 1] = Place {
                    state,
                    n_taken: n_taken.map(|n| n.saturating_add(1)),
                };
                idx += 1;
                continue;
            }
            self.allow_range(alive_from..node.first_token as usize, mask);
            alive_from = self.nodes[end].first_token as usize;
            idx = end;
        }
        self.allow_range(alive_from..self.tokens.len(), mask);
        Ok(())
    }

    /// Allows some of the tokens, in the order of their bytes.
    fn allow_range(&self, range: Range<usize>, mask: &mut TokenMask) {
        self.tokens[range]
            .iter()
            .for_each(|&token| mask.allow(token));
    }

    /// Allows the tokens that a run takes whole.
    fn add_taken(&self, run: Run, mask: &mut TokenMask) {
        let allow = |mask: &mut TokenMask| {
            let lists = self.by_groups.iter().filter(|list| run.takes(list.0, 0));
            for (_, list) in lists {
                let short = list.iter().take_while(|each| each.0 <= run.n_characters);
                short.for_each(|&(_, token)| mask.allow(token));
            }
        };
        if self.tokens.len() < MIN_REMEMBERED {
            return allow(mask);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= MAX_TAKEN {
            taken.clear();
        }
        let most = run
            .n_characters
            .min(self.max_depth.min(u8::MAX.into()) as u8);
        let known = taken.entry((run.groups, most)).or_insert_with(|| {
            let mut known = TokenMask::new(mask.n_tokens());
            allow(&mut known);
            known
        });
        mask.union(known);
    }
}
