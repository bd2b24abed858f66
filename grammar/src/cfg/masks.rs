//! Masks of a grammar's outputs: one walk of the vocabulary, remembered by state.

use std::sync::Arc;

use crate::cfg::machine::{CfgLanguage, Threads};
use crate::memo::Reach;
use crate::{GrammarError, TokenMask, Vocabulary};

impl CfgLanguage {
    /// Allows the tokens that can come next and leave at most `limit` bytes to completion.
    pub(crate) fn mask(
        &mut self,
        threads: &Threads,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        let reach = match self.memo.get(vocabulary, threads.clone()) {
            Some(known) => known,
            None => {
                let reach = Arc::new(self.reach(threads, vocabulary, usize::MAX)?);
                self.memo.insert(vocabulary, threads.clone(), &reach);
                reach
            }
        };
        if reach.furthest <= limit {
            mask.union(&reach.mask);
        } else if reach.nearest <= limit {
            mask.union(&self.reach(threads, vocabulary, limit)?.mask);
        }
        Ok(())
    }

    fn reach(
        &mut self,
        threads: &Threads,
        vocabulary: &Vocabulary,
        limit: usize,
    ) -> Result<Reach, GrammarError> {
        let mut reach = Reach::new(vocabulary);
        let start = self.machine.lower(threads);
        vocabulary.all().walk(
            &mut self.machine,
            start,
            |machine, flat, byte| machine.step(flat, byte),
            |machine, token, flat| {
                let distance = machine.distance(flat);
                if distance <= limit {
                    reach.add(token, distance);
                }
            },
        )?;
        Ok(reach)
    }
}
