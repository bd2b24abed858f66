//! The kinds of language side by side, behind one set of operations on bytes.

use std::sync::Arc;

use crate::cfg::machine::{CfgLanguage, Threads};
use crate::json::machine::{JsonLanguage, JsonState};
use crate::literals::{LiteralNode, LiteralTrie};
use crate::memo::{MaskMemo, Reach};
use crate::regex::dfa::{Dfa, DfaState};
use crate::{GrammarError, TokenMask, Vocabulary};

/// A language of byte strings with whatever of its automaton was built so far.
#[derive(Debug)]
pub(crate) enum Language {
    Regex(Box<RegexLanguage>),
    Choices(LiteralTrie),
    Json(Box<JsonLanguage>),
    Cfg(Box<CfgLanguage>),
}

/// Where an output stands in a [`Language`]. Always live: some string of the language begins so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Regex(DfaState),
    Choices(LiteralNode),
    Json(JsonState),
    Cfg(Threads),
}

impl State {
    /// Whether some output goes on from here for certain: nothing open is judged only when it is whole.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::Regex(_) | Self::Choices(_) => true,
            Self::Json(json) => json.parses.iter().all(|stack| stack.is_settled()),
            Self::Cfg(threads) => threads.nested().all(|nested| nested.state.is_settled()),
        }
    }
}

/// One regex.
#[derive(Debug)]
pub(crate) struct RegexLanguage {
    pub(crate) dfa: Dfa,
    pub(crate) start: DfaState,
    pub(crate) memo: MaskMemo<DfaState>,
}

const FOREIGN: &str = "a state is only used with the language that made it";

impl Language {
    /// Heap bytes, roughly: automata as far as they were built, and masks.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Regex(regex) => regex.dfa.n_bytes() + regex.memo.n_bytes(),
            Self::Choices(trie) => trie.n_bytes(),
            Self::Json(json) => json.n_bytes(),
            Self::Cfg(cfg) => cfg.n_bytes(),
        }
    }

    /// The state of the empty output.
    pub(crate) fn start(&self) -> State {
        match self {
            Self::Regex(regex) => State::Regex(regex.start),
            Self::Choices(_) => State::Choices(0),
            Self::Json(json) => State::Json(json.start()),
            Self::Cfg(cfg) => State::Cfg(cfg.start()),
        }
    }

    /// Grants the work of one operation on an output whose bytes are `text`.
    pub(crate) fn begin(&mut self, text: &[u8]) {
        match self {
            Self::Regex(regex) => regex.dfa.refuel(),
            Self::Choices(_) => {}
            Self::Json(json) => json.begin(text),
            Self::Cfg(cfg) => cfg.refuel(),
        }
    }

    /// Whether steps depend on the bytes of the output, which [`Language::begin`] must then be given.
    pub(crate) fn keeps_text(&self) -> bool {
        matches!(self, Self::Json(json) if json.keeps_text())
    }

    /// The state after one more byte, or `None` where no output of the language goes on so.
    pub(crate) fn step(&mut self, state: &State, byte: u8) -> Result<Option<State>, GrammarError> {
        match (self, state) {
            (Self::Regex(regex), State::Regex(state)) => {
                Ok(regex.dfa.step(*state, byte)?.map(State::Regex))
            }
            (Self::Choices(trie), State::Choices(node)) => {
                Ok(trie.child(*node, byte).map(State::Choices))
            }
            (Self::Json(json), State::Json(state)) => Ok(json.step(state, byte)?.map(State::Json)),
            (Self::Cfg(cfg), State::Cfg(threads)) => Ok(cfg.step(threads, byte)?.map(State::Cfg)),
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// Whether the output is in the language.
    pub(crate) fn is_complete(&mut self, state: &State) -> bool {
        match (self, state) {
            (Self::Regex(regex), State::Regex(state)) => regex.dfa.is_accepting(*state),
            (Self::Choices(trie), State::Choices(node)) => trie.literal(*node).is_some(),
            (Self::Json(json), State::Json(state)) => json.is_complete(state),
            (Self::Cfg(cfg), State::Cfg(threads)) => cfg.is_complete(threads),
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// Fewest bytes to an output in the language.
    pub(crate) fn distance(&mut self, state: &State) -> usize {
        match (self, state) {
            (Self::Regex(regex), State::Regex(state)) => regex.dfa.distance(*state),
            (Self::Choices(trie), State::Choices(node)) => trie.distance(*node) as usize,
            (Self::Json(json), State::Json(state)) => json.distance(state),
            (Self::Cfg(cfg), State::Cfg(threads)) => cfg.distance(threads),
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// Sets `mask` to the tokens whose bytes can come next and leave at most `limit` bytes to completion.
    /// End tokens are the matcher's matter.
    pub(crate) fn mask(
        &mut self,
        state: &State,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        if let (Self::Json(json), State::Json(state)) = (&mut *self, state) {
            return json.mask(state, vocabulary, limit, mask);
        }
        mask.clear();
        match (self, state) {
            (Self::Regex(regex), State::Regex(state)) => {
                regex.mask(*state, vocabulary, limit, mask)
            }
            (Self::Choices(trie), State::Choices(node)) => vocabulary.all().walk(
                mask,
                *node,
                |_, node, byte| Ok(trie.child(*node, byte)),
                |mask, token, node| {
                    if trie.distance(*node) as usize <= limit {
                        mask.allow(token);
                    }
                },
            ),
            (Self::Cfg(cfg), State::Cfg(threads)) => cfg.mask(threads, vocabulary, limit, mask),
            _ => unreachable!("{FOREIGN}"),
        }
    }
}

impl RegexLanguage {
    fn mask(
        &mut self,
        state: DfaState,
        vocabulary: &Vocabulary,
        limit: usize,
        mask: &mut TokenMask,
    ) -> Result<(), GrammarError> {
        let reach = match self.memo.get(vocabulary, state) {
            Some(known) => known,
            None => {
                let reach = Arc::new(self.reach(state, vocabulary, usize::MAX)?);
                self.memo.insert(vocabulary, state, &reach);
                reach
            }
        };
        if reach.furthest <= limit {
            reach.mask.add_to(mask);
        } else if reach.nearest <= limit {
            self.reach(state, vocabulary, limit)?.mask.add_to(mask);
        }
        Ok(())
    }

    fn reach(
        &mut self,
        state: DfaState,
        vocabulary: &Vocabulary,
        limit: usize,
    ) -> Result<Reach, GrammarError> {
        let mut reach = Reach::new(vocabulary, true);
        vocabulary.all().walk(
            &mut self.dfa,
            state,
            |dfa, &state, byte| dfa.step(state, byte),
            |dfa, token, &state| {
                let distance = dfa.distance(state);
                if distance <= limit {
                    reach.add(token, distance);
                }
            },
        )?;
        Ok(reach)
    }
}
