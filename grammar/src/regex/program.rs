//! What every automaton of one pattern shares: its NFA, how far each of the NFA's states is from a
//! match, and the classes of bytes.

use std::sync::{Mutex, PoisonError};

use regex_automata::nfa::thompson::{self, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::Hir;

use crate::regex::fold::takes_visible_alike;
use crate::regex::reach::{UNREACHABLE, distances};
use crate::{GrammarError, Limits};

/// NFA states from which on runs are long to find: they pass through many states of the automaton, too.
const MANY_STATES: usize = 512;

/// Bytes of an NFA up to which what it was made with is kept.
const MAX_IDLE_BYTES: usize = 1 << 18;

/// What NFAs are made with, while it is not used: for characters beyond ASCII it has a table of ten thousand entries, which
/// takes longer to make than most patterns.
static IDLE: Mutex<Option<thompson::Compiler>> = Mutex::new(None);

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) nfa: NFA,
    /// Fewest bytes to a match. [n_nfa_states]
    pub(crate) distances: Vec<u32>,
    /// Whether it takes a byte, and a match may follow. [n_nfa_states]
    pub(crate) takes_bytes: Vec<bool>,
    /// Byte to class. [256]
    pub(crate) classes: [u8; 256],
    pub(crate) n_classes: usize,
    /// Whether it has many states, and tells no visible characters apart: see [`crate::regex::fold`].
    pub(crate) is_of_words: bool,
    /// The words of which one is searched for, if it is known that the pattern asks no more: see [`crate::regex::words`].
    pub(crate) words: Option<Box<[Box<[u8]>]>>,
    /// The NFA state from which every text matches, of a pattern that ends with any text.
    pub(crate) total: Option<StateID>,
}

impl Program {
    pub(crate) fn new(hir: &Hir, limits: &Limits) -> Result<Self, GrammarError> {
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(limits.nfa_bytes))
            .which_captures(WhichCaptures::None);
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut compiler = idle.unwrap_or_else(thompson::Compiler::new);
        let nfa = compiler
            .configure(config)
            .build_from_hir(hir)
            .map_err(|error| match error.size_limit() {
                Some(allowed) => GrammarError::Limit {
                    what: "the regex".into(),
                    limit: "nfa_bytes",
                    allowed,
                },
                None => GrammarError::Regex {
                    offset: 0,
                    message: error.to_string(),
                },
            })?;
        if nfa.memory_usage() <= MAX_IDLE_BYTES {
            *IDLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(compiler);
        }
        let mut classes = [0; 256];
        for byte in 0..=u8::MAX {
            classes[usize::from(byte)] = nfa.byte_classes().get(byte);
        }
        let distances = distances(&nfa);
        let takes_byte = |state: &State| {
            matches!(
                state,
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_)
            )
        };
        let each = nfa.states().iter().zip(&distances);
        let takes_bytes =
            each.map(|(state, &distance)| takes_byte(state) && distance != UNREACHABLE);
        Ok(Self {
            takes_bytes: takes_bytes.collect(),
            distances,
            n_classes: usize::from(classes.iter().max().copied().unwrap_or(0)) + 1,
            classes,
            is_of_words: nfa.states().len() >= MANY_STATES && takes_visible_alike(&nfa),
            nfa,
            words: None,
            total: None,
        })
    }

    /// The same of a pattern whose last part is a loop over every character.
    pub(crate) fn ending_in_any_text(hir: &Hir, limits: &Limits) -> Result<Self, GrammarError> {
        let program = Self::new(hir, limits)?;
        let total = last_loop(&program.nfa);
        Ok(Self { total, ..program })
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.nfa.memory_usage() + self.distances.len() * (size_of::<u32>() + size_of::<bool>())
    }
}

/// The loop after which a pattern ends: the one state that leads to the match without a byte.
fn last_loop(nfa: &NFA) -> Option<StateID> {
    let is_match = |id: &StateID| matches!(nfa.state(*id), State::Match { .. });
    let ends = |state: &State| match state {
        State::Union { alternates } => alternates.iter().any(is_match),
        State::BinaryUnion { alt1, alt2 } => is_match(alt1) || is_match(alt2),
        State::Look { next, .. } | State::Capture { next, .. } => is_match(next),
        _ => false,
    };
    let ids = (0..nfa.states().len()).map(StateID::new_unchecked);
    let mut last = ids.filter(|&id| ends(nfa.state(id)));
    let only = last.next().filter(|_| last.next().is_none())?;
    matches!(nfa.state(only), State::BinaryUnion { .. }).then_some(only)
}
