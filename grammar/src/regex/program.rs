//! What every automaton of one pattern shares: its NFA, how far each of the NFA's states is from a
//! match, and the classes of bytes.

use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_syntax::hir::Hir;

use crate::regex::reach::distances;
use crate::{GrammarError, Limits};

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) nfa: NFA,
    /// Fewest bytes to a match. [n_nfa_states]
    pub(crate) distances: Vec<u32>,
    /// Byte to class. [256]
    pub(crate) classes: [u8; 256],
    pub(crate) n_classes: usize,
}

impl Program {
    pub(crate) fn new(hir: &Hir, limits: &Limits) -> Result<Self, GrammarError> {
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(limits.nfa_bytes))
            .which_captures(WhichCaptures::None);
        let nfa = thompson::Compiler::new()
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
        let mut classes = [0; 256];
        for byte in 0..=u8::MAX {
            classes[usize::from(byte)] = nfa.byte_classes().get(byte);
        }
        Ok(Self {
            distances: distances(&nfa),
            n_classes: usize::from(classes.iter().max().copied().unwrap_or(0)) + 1,
            classes,
            nfa,
        })
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.nfa.memory_usage() + self.distances.len() * size_of::<u32>()
    }
}
