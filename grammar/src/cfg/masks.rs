//! Masks of a grammar's outputs: what stays within a terminal is told apart from what leaves it.
//!
//! Whether a token stays within a thread's terminal depends on the terminal alone, so those masks
//! are shared by all threads that stand at one place of it, whatever surrounds them; nested
//! constraints remember their own. The other tokens are tried on the state as a whole, which is
//! remembered by state. Where few are left, as within a string, they are tried one by one.

use std::iter::once;
use std::sync::Arc;

use crate::bytes::ByteSet;
use crate::cfg::machine::{CfgLanguage, Flat, Machine, Threads};
use crate::cfg::terminal::{Inner, Terminal};
use crate::memo::{MaskMemo, Reach};
use crate::{GrammarError, TokenMask, Vocabulary};

/// The masks found so far for one grammar.
#[derive(Debug)]
pub(crate) struct CfgMasks {
    /// Tokens within a terminal, by its index and state; distances are to the terminal's end.
    insides: MaskMemo<(u32, u32)>,
    /// Tokens that stay within no thread's terminal.
    outsides: MaskMemo<Threads>,
}

impl CfgMasks {
    /// Splits the limit between the two memos.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let half = max_bytes / 2;
        Self {
            insides: MaskMemo::new(half),
            outsides: MaskMemo::new(half),
        }
    }
}

impl CfgLanguage {
    /// Heap bytes of the terminals and the masks.
    pub(crate) fn n_bytes(&self) -> usize {
        let masks = self.masks.insides.n_bytes() + self.masks.outsides.n_bytes();
        let terminals = self.machine.terminals.iter().map(Terminal::n_bytes);
        masks + terminals.sum::<usize>()
    }

    /// Allows the tokens that can come next and leave at most `limit` bytes to completion. A token
    /// that stays within a terminal is measured by the nearest end through that terminal.
    pub(crate) fn mask(
        &mut self,
        threads: &Threads,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        let flat = self.machine.lower(threads);
        self.inside(&flat, vocabulary, limit, mask)?;
        let reach = match self.masks.outsides.get(vocabulary, threads.clone()) {
            Some(known) => known,
            None => {
                let reach = Arc::new(self.outside(&flat, vocabulary, usize::MAX)?);
                let memo = &mut self.masks.outsides;
                memo.insert(vocabulary, threads.clone(), &reach);
                reach
            }
        };
        if reach.furthest <= limit {
            reach.mask.add_to(mask);
        } else if reach.nearest <= limit {
            self.outside(&flat, vocabulary, limit)?.mask.add_to(mask);
        }
        Ok(())
    }

    /// Allows the tokens that stay within some thread's terminal.
    fn inside(
        &mut self,
        flat: &Flat,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        for (terminal, inner, cost) in self.machine.parts(flat) {
            // Without a limit nothing is measured.
            let left = if limit == usize::MAX {
                Some(limit)
            } else {
                limit.checked_sub(cost)
            };
            let Some(limit) = left else {
                continue;
            };
            match (&self.machine.terminals[terminal as usize], inner) {
                (Terminal::Nested(constraint), Inner::Nested(nested)) => {
                    let mut language = constraint.locked();
                    if language.keeps_text() {
                        language.begin(&nested.text);
                    }
                    let mut own = TokenMask::new(vocabulary.n_tokens());
                    language.mask(&nested.state, vocabulary, limit, &mut own)?;
                    mask.union(&own);
                }
                (_, Inner::Flat(state)) => {
                    let reach = self.within(terminal, state, vocabulary)?;
                    if reach.furthest <= limit {
                        reach.mask.add_to(mask);
                    } else if reach.nearest <= limit {
                        let reach = walk(&mut self.machine, terminal, state, vocabulary, limit)?;
                        reach.mask.add_to(mask);
                    }
                }
                _ => unreachable!("only nested constraints have nested states"),
            }
        }
        Ok(())
    }

    fn within(
        &mut self,
        terminal: u32,
        state: u32,
        vocabulary: &Vocabulary,
    ) -> Result<Arc<Reach>, GrammarError> {
        let key = (terminal, state);
        if let Some(known) = self.masks.insides.get(vocabulary, key) {
            return Ok(known);
        }
        let reach = walk(&mut self.machine, terminal, state, vocabulary, usize::MAX)?;
        let reach = Arc::new(reach);
        self.masks.insides.insert(vocabulary, key, &reach);
        Ok(reach)
    }

    /// The tokens that can come next and stay within no thread's terminal.
    fn outside(
        &mut self,
        flat: &Flat,
        vocabulary: &Vocabulary,
        limit: usize,
    ) -> Result<Reach, GrammarError> {
        self.machine.check_memory()?;
        let mut inside = TokenMask::new(vocabulary.n_tokens());
        self.inside(flat, vocabulary, usize::MAX, &mut inside)?;
        let mut reach = Reach::new(vocabulary, true);
        // How many of the tokens before each are not inside: where there are none, none is wanted.
        let mut n_wanted = 0;
        let wanted: Vec<u32> = once(0)
            .chain(vocabulary.all().tokens().iter().map(|&token| {
                n_wanted += u32::from(!inside.is_allowed(token));
                n_wanted
            }))
            .collect();
        let trie = vocabulary.all();
        trie.walk_nodes(
            &mut self.machine,
            flat.clone(),
            |_, _| ByteSet::ALL,
            |machine, flat, (node, byte)| {
                let tokens = trie.tokens_below(node);
                match wanted[tokens.start] < wanted[tokens.end] {
                    true => machine.step(flat, byte),
                    false => Ok(None),
                }
            },
            |machine, token, flat| {
                let distance = machine.distance(flat);
                if distance <= limit && !inside.is_allowed(token) {
                    reach.add(token, distance);
                }
            },
        )?;
        Ok(reach)
    }
}

/// The tokens within a terminal that leave at most `limit` bytes to its end.
fn walk(
    machine: &mut Machine,
    terminal: u32,
    state: u32,
    vocabulary: &Vocabulary,
    limit: usize,
) -> Result<Reach, GrammarError> {
    let mut reach = Reach::new(vocabulary, true);
    vocabulary.all().walk(
        &mut machine.terminals[terminal as usize],
        state,
        |terminal, &state, byte| terminal.step_flat(state, byte),
        |terminal, token, &state| {
            let distance = terminal.distance_flat(state);
            if distance <= limit {
                reach.add(token, distance);
            }
        },
    )?;
    Ok(reach)
}
