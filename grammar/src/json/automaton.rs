//! One automaton of strings or names, or a combination of some, with what was found of the lengths of its matches.

use crate::GrammarError;
use crate::json::search::LengthSearch;
use crate::regex::dfa::{Dfa, DfaState};
use crate::regex::product::Product;

/// One automaton or a combination of some.
#[derive(Debug)]
pub(crate) enum Automaton {
    One(Box<Dfa>),
    Product(Box<Product>, LengthSearch),
}

impl Automaton {
    /// The state after `byte`, or `None` where no match can follow.
    #[inline]
    pub(crate) fn step(
        &mut self,
        state: DfaState,
        byte: u8,
    ) -> Result<Option<DfaState>, GrammarError> {
        match self {
            Self::One(dfa) => dfa.step(state, byte),
            Self::Product(product, _) => product.step(state, byte),
        }
    }

    /// Whether the bytes that led to `state` match as a whole.
    pub(crate) fn is_accepting(&self, state: DfaState) -> bool {
        match self {
            Self::One(dfa) => dfa.is_accepting(state),
            Self::Product(product, _) => product.is_accepting(state),
        }
    }

    /// Whether all that may follow `other` plainly may follow `state`, too.
    pub(crate) fn covers(&self, state: DfaState, other: DfaState) -> bool {
        match self {
            Self::One(dfa) => dfa.covers(state, other),
            Self::Product(product, _) => product.covers(state, other),
        }
    }

    /// Fewest bytes from `state` to a match.
    pub(crate) fn distance(&self, state: DfaState) -> usize {
        match self {
            Self::One(dfa) => dfa.distance(state),
            Self::Product(product, _) => product.distance(state),
        }
    }

    /// Bytes of one class lead to the same states, from every state.
    pub(crate) fn class(&self, byte: u8) -> u16 {
        match self {
            Self::One(dfa) => dfa.class(byte).into(),
            Self::Product(product, _) => product.class(byte),
        }
    }

    /// Whether it has many states, and tells no visible characters apart.
    pub(crate) fn is_of_words(&self) -> bool {
        match self {
            Self::One(dfa) => dfa.program().is_of_words,
            Self::Product(product, _) => product.is_of_words(),
        }
    }

    /// Which of a product's marks hold, as bits.
    pub(crate) fn marks(&self, state: DfaState) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::Product(product, _) => product.marks(state),
        }
    }

    /// Heap bytes, as far as it was built.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::One(dfa) => dfa.n_bytes(),
            Self::Product(product, search) => product.n_bytes() + search.n_bytes(),
        }
    }

    /// Grants the work of one operation.
    pub(crate) fn refuel(&mut self) {
        match self {
            Self::One(dfa) => dfa.refuel(),
            Self::Product(product, _) => product.refuel(),
        }
    }
}
