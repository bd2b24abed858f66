//! Walks of the trie that take words in runs ([`crate::runs`]), and step by a table.
//!
//! A walk enters a hundred thousand nodes from a few dozen states. So a state has an index, and where a
//! byte led once is read from then on, for all bytes of its class.

use std::hash::Hash;
use std::ops::Range;
use std::sync::PoisonError;

use foldhash::HashMap;

use crate::TokenMask;
use crate::runs::{BROKEN, GROUPS, Run};
use crate::token_set::TokenSet;
use crate::trie::TokenTrie;

/// Nodes of a subtree from which on it is worth finding a run, which takes as long as walking some hundreds.
const MIN_SKIPPED: usize = 256;
/// Tokens from which on the masks of runs are remembered, and how many at a time.
const MIN_REMEMBERED: usize = 4096;
const MAX_TAKEN: usize = 512;
/// Tokens for each that the first run does not tell of, from which on these are followed one by one: what a walk
/// passes by costs it more than their common beginnings spare.
const TOKENS_PER_UNTOLD: usize = 8;

const DEAD: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// The states that a walk came to, by index, and where each byte led from them: most nodes are entered from
/// a few states.
struct Steps<'c, S> {
    ids: HashMap<S, usize>,
    states: Vec<S>,
    /// The run of each state, none until it is asked for, and whether it was. [n_states]
    runs: Vec<(Run, bool)>,
    /// The class of each byte.
    classes: &'c [u8; 256],
    n_classes: usize,
    /// The state after each class of bytes, `DEAD` or `UNKNOWN`. [n_states, n_classes]
    next: Vec<u32>,
}

impl<'c, S: Clone + Eq + Hash> Steps<'c, S> {
    /// With the state 0.
    fn new(start: S, run: Run, classes: &'c [u8; 256]) -> Self {
        let n_classes = 1 + usize::from(classes.iter().copied().max().unwrap_or(0));
        Self {
            classes,
            n_classes,
            ids: HashMap::from_iter([(start.clone(), 0)]),
            states: vec![start],
            runs: vec![(run, true)],
            next: vec![UNKNOWN; n_classes],
        }
    }

    /// The run from a state: none, if it was not asked for where it is worth it. What nearly always comes is kept apart
    /// from what is to be found first, here and below: else neither is put into the loop of the walk.
    #[inline(always)]
    fn run<E>(
        &mut self,
        idx: usize,
        is_worth_it: bool,
        run: impl FnOnce(&S) -> Result<Run, E>,
    ) -> Result<Run, E> {
        let (known, is_known) = self.runs[idx];
        if is_worth_it && !is_known {
            self.runs[idx] = (run(&self.states[idx])?, true);
            return Ok(self.runs[idx].0);
        }
        Ok(known)
    }

    /// The state after a byte, which `step` tells the first time; `None` where that dies.
    #[inline(always)]
    fn after<E>(
        &mut self,
        idx: usize,
        byte: u8,
        step: impl FnOnce(&S) -> Result<Option<S>, E>,
    ) -> Result<Option<usize>, E> {
        let cell = idx * self.n_classes + usize::from(self.classes[usize::from(byte)]);
        let next = match self.next[cell] {
            UNKNOWN => self.find(idx, cell, step)?,
            known => known,
        };
        Ok((next != DEAD).then_some(next as usize))
    }

    #[cold]
    fn find<E>(
        &mut self,
        idx: usize,
        cell: usize,
        step: impl FnOnce(&S) -> Result<Option<S>, E>,
    ) -> Result<u32, E> {
        self.next[cell] = match step(&self.states[idx])? {
            None => DEAD,
            Some(next) => {
                let new = self.states.len();
                let next_idx = *self.ids.entry(next.clone()).or_insert(new);
                if next_idx == new {
                    self.states.push(next);
                    self.runs.push((Run::NONE, false));
                    self.next.resize(self.next.len() + self.n_classes, UNKNOWN);
                }
                next_idx as u32
            }
        };
        Ok(self.next[cell])
    }
}

/// What a walk knows of the place before a node.
#[derive(Clone, Copy)]
struct Place {
    state: usize,
    /// The characters up to here, if the first run takes them.
    n_taken: Option<u8>,
}

impl TokenTrie {
    /// Allows the tokens that `step` follows to their ends from `start`. Those that the start's `run`
    /// takes are known beforehand, and whole subtrees that a later run takes are not walked; runs
    /// must be right but may be short. Bytes of one of the `classes` lead to the same states.
    pub(crate) fn walk_in_runs<C, S: Clone + Eq + Hash, E>(
        &self,
        context: &mut C,
        (start, classes): (S, &[u8; 256]),
        mut step: impl FnMut(&mut C, &S, u8) -> Result<Option<S>, E>,
        mut run: impl FnMut(&mut C, &S) -> Result<Run, E>,
        found: &mut TokenSet,
    ) -> Result<(), E> {
        let first = run(context, &start)?;
        if first.takes(self.groups, self.max_depth.min(u8::MAX.into()) as u8) {
            self.add_taken(first, found);
            return Ok(());
        }
        let mut steps = Steps::new(start, first, classes);
        let n_tokens = self.tokens.len();
        if n_tokens >= MIN_REMEMBERED && self.listed.n_untold(first) < n_tokens / TOKENS_PER_UNTOLD
        {
            self.follow_untold(
                &mut steps,
                first,
                |state, byte| step(context, state, byte),
                found,
            )?;
        } else {
            let left_out = self.walk_beside(first, &mut steps, context, step, run)?;
            self.allow_all_but(left_out, found);
        }
        self.add_taken(first, found);
        Ok(())
    }

    /// Walks from the state 0, whose run is the `first`. Between which nodes tokens die, or that run tells of them: all
    /// others go on.
    fn walk_beside<C, S: Clone + Eq + Hash, E>(
        &self,
        first: Run,
        steps: &mut Steps<'_, S>,
        context: &mut C,
        mut step: impl FnMut(&mut C, &S, u8) -> Result<Option<S>, E>,
        mut run: impl FnMut(&mut C, &S) -> Result<Run, E>,
    ) -> Result<Vec<Range<usize>>, E> {
        let start = Place {
            state: 0,
            n_taken: Some(0),
        };
        // By depth.
        let mut places = vec![start; self.max_depth + 1];
        let mut left_out: Vec<Range<usize>> = Vec::new();
        // The last node with tokens that are allowed.
        let mut allowed = 0;
        let mut idx = 0;
        while idx < self.briefs.len() {
            let node = &self.briefs[idx];
            let end = node.end as usize;
            let depth = node
                .depth()
                .unwrap_or_else(|| self.nodes[idx].depth as usize);
            let Place { state, n_taken } = places[depth];
            let is_told = n_taken.is_some_and(|n| node.is_told(first, n));
            if !is_told
                && node.groups & BROKEN == 0
                && steps
                    .run(state, end - idx >= MIN_SKIPPED, |state| run(context, state))?
                    .takes(node.groups, node.most)
            {
                allowed = idx;
                idx = end;
                continue;
            }
            let next = match is_told {
                true => None,
                false => steps.after(state, node.byte, |state| step(context, state, node.byte))?,
            };
            if let Some(state) = next {
                let n_taken =
                    n_taken.filter(|_| first.groups & GROUPS[usize::from(node.byte)] != 0);
                places[depth + 1] = Place {
                    state,
                    n_taken: n_taken.map(|n| n.saturating_add(1)),
                };
                allowed = if node.is_token() { idx } else { allowed };
                idx += 1;
                continue;
            }
            match left_out.last_mut() {
                Some(last) if allowed < last.end => last.end = end,
                _ => left_out.push(idx..end),
            }
            idx = end;
        }
        Ok(left_out)
    }

    /// Allows those tokens of which a run from the state 0 does not tell, and which `step` follows to their ends.
    fn follow_untold<S: Clone + Eq + Hash, E>(
        &self,
        steps: &mut Steps<'_, S>,
        run: Run,
        mut step: impl FnMut(&S, u8) -> Result<Option<S>, E>,
        found: &mut TokenSet,
    ) -> Result<(), E> {
        self.listed.each_untold(run, |token, bytes| {
            let mut state = 0;
            for &byte in bytes {
                match steps.after(state, byte, |state| step(state, byte))? {
                    Some(next) => state = next,
                    None => return Ok(()),
                }
            }
            found.allow(token);
            Ok(())
        })
    }

    /// Allows all tokens but those of some ranges of nodes, which ascend.
    fn allow_all_but(&self, mut left_out: Vec<Range<usize>>, found: &mut TokenSet) {
        let token = |node: usize| self.nodes[node].first_token as usize;
        for range in &mut left_out {
            *range = token(range.start)..token(range.end);
        }
        let n_left_out: usize = left_out.iter().map(Range::len).sum();
        if n_left_out < self.tokens.len() / 2 {
            let mut others = self.all(found.n_tokens()).clone();
            let left_out = left_out
                .iter()
                .flat_map(|range| &self.tokens[range.clone()]);
            left_out.for_each(|&token| others.forbid(token));
            return found.many().union(&others);
        }
        let starts = left_out.iter().map(|range| range.start);
        let starts = starts.chain([self.tokens.len()]);
        let ends = [0]
            .into_iter()
            .chain(left_out.iter().map(|range| range.end));
        for (end, next) in ends.zip(starts) {
            let others = &self.tokens[end..next];
            found.extend(others.len(), others.iter().copied());
        }
    }

    /// All tokens, of a vocabulary of `n_tokens`.
    pub(crate) fn all(&self, n_tokens: usize) -> &TokenMask {
        self.all.get_or_init(|| {
            let mut all = TokenMask::new(n_tokens);
            all.allow_all(&self.tokens);
            all
        })
    }

    /// Allows the tokens that a run takes whole.
    fn add_taken(&self, run: Run, found: &mut TokenSet) {
        if run.n_characters == 0 {
            return;
        }
        if self.tokens.len() < MIN_REMEMBERED {
            return self.listed.taken(run).for_each(|token| found.allow(token));
        }
        let mut known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_TAKEN {
            known.clear();
        }
        let most = run
            .n_characters
            .min(self.max_depth.min(u8::MAX.into()) as u8);
        let n_tokens = found.n_tokens();
        let known = known
            .entry((run.groups, most))
            .or_insert_with(|| self.taken(run, n_tokens));
        found.union(known);
    }

    /// The tokens that a run takes whole, of a vocabulary of `n_tokens`.
    fn taken(&self, run: Run, n_tokens: usize) -> TokenSet {
        let n_taken = self.listed.n_taken(run);
        let mut taken = if n_taken < self.tokens.len() / 2 {
            let mut taken = TokenSet::new(n_tokens);
            taken.extend(n_taken, self.listed.taken(run));
            taken
        } else {
            let mut taken = self.all(n_tokens).clone();
            let others = self.listed.not_taken(run);
            others.for_each(|token| taken.forbid(token));
            TokenSet::from(taken)
        };
        taken.share();
        taken
    }
}
