//! What a grammar is made of at the bottom: languages of byte strings, each stepped by bytes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::language::State;
use crate::literals::LiteralTrie;
use crate::regex::dfa::Dfa;
use crate::regex::table::Table;
use crate::{Constraint, GrammarError, Limits};

/// A language of byte strings.
#[derive(Debug)]
pub(crate) enum Terminal {
    Literals(LiteralTrie),
    Regex(Box<(Dfa, u32)>),
    Table(Table),
    /// A constraint as a whole, without a prefix.
    Nested(Constraint),
}

/// Where an output stands within a terminal. Always live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    Flat(u32),
    Nested(Arc<Nested>),
}

/// Where an output stands within a constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nested {
    pub(crate) state: State,
    /// The bytes within the constraint, where it asks for them.
    pub(crate) text: Vec<u8>,
}

impl Hash for Inner {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Flat(state) => state.hash(hasher),
            Self::Nested(state) => state.hash(hasher),
        }
    }
}

impl Inner {
    /// Orders flat states; nested ones are all alike.
    pub(crate) fn rank(&self) -> u32 {
        match self {
            Self::Flat(state) => *state,
            Self::Nested(_) => 0,
        }
    }
}

const FOREIGN: &str = "a state is only used with the terminal that made it";

impl Terminal {
    /// The strings of `hir`; `None` if there are none.
    pub(crate) fn of_hir(hir: &Hir, limits: &Limits) -> Result<Option<Self>, GrammarError> {
        if let Some(literals) = literals(hir) {
            return Ok(Some(Self::Literals(LiteralTrie::new(&literals))));
        }
        match Dfa::new(hir, limits) {
            Ok(dfa) => Ok(Some(Self::Regex(Box::new(dfa)))),
            Err(GrammarError::Empty { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn start(&self) -> Inner {
        match self {
            Self::Literals(_) => Inner::Flat(0),
            Self::Regex(regex) => Inner::Flat(regex.1),
            Self::Table(_) => Inner::Flat(0),
            Self::Nested(constraint) => Inner::Nested(Arc::new(Nested {
                state: constraint.locked().start(),
                text: Vec::new(),
            })),
        }
    }

    /// The state after one more byte, or `None` where no string of the terminal goes on so.
    pub(crate) fn step(&mut self, inner: &Inner, byte: u8) -> Result<Option<Inner>, GrammarError> {
        match (self, inner) {
            (Self::Nested(constraint), Inner::Nested(nested)) => {
                let mut language = constraint.locked();
                if language.keeps_text() {
                    language.begin(&nested.text);
                }
                let Some(state) = language.step(&nested.state, byte)? else {
                    return Ok(None);
                };
                let mut text = nested.text.clone();
                if language.keeps_text() {
                    text.push(byte);
                }
                Ok(Some(Inner::Nested(Arc::new(Nested { state, text }))))
            }
            (flat, Inner::Flat(state)) => Ok(flat.step_flat(*state, byte)?.map(Inner::Flat)),
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// [`Terminal::step`] of what is no nested constraint.
    pub(crate) fn step_flat(&mut self, state: u32, byte: u8) -> Result<Option<u32>, GrammarError> {
        match self {
            Self::Literals(trie) => Ok(trie.child(state, byte)),
            Self::Regex(regex) => regex.0.step(state, byte),
            Self::Table(table) => Ok(table.step(state, byte)),
            Self::Nested(_) => unreachable!("{FOREIGN}"),
        }
    }

    /// Whether the bytes so far are a string of the terminal.
    pub(crate) fn is_complete(&self, inner: &Inner) -> bool {
        match (self, inner) {
            (Self::Literals(trie), Inner::Flat(node)) => trie.literal(*node).is_some(),
            (Self::Regex(regex), Inner::Flat(state)) => regex.0.is_accepting(*state),
            (Self::Table(table), Inner::Flat(state)) => table.distance(*state) == 0,
            (Self::Nested(constraint), Inner::Nested(nested)) => {
                let mut language = constraint.locked();
                if language.keeps_text() {
                    language.begin(&nested.text);
                }
                language.is_complete(&nested.state)
            }
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// Fewest bytes to a string of the terminal.
    pub(crate) fn distance(&self, inner: &Inner) -> usize {
        match (self, inner) {
            (Self::Nested(constraint), Inner::Nested(nested)) => {
                constraint.locked().distance(&nested.state)
            }
            (flat, Inner::Flat(state)) => flat.distance_flat(*state),
            _ => unreachable!("{FOREIGN}"),
        }
    }

    /// [`Terminal::distance`] of what is no nested constraint.
    pub(crate) fn distance_flat(&self, state: u32) -> usize {
        match self {
            Self::Literals(trie) => trie.distance(state) as usize,
            Self::Regex(regex) => regex.0.distance(state),
            Self::Table(table) => table.distance(state),
            Self::Nested(_) => unreachable!("{FOREIGN}"),
        }
    }

    /// Whether some string of it is not empty.
    pub(crate) fn is_more_than_empty(&mut self) -> Result<bool, GrammarError> {
        let start = self.start();
        for byte in 0..=u8::MAX {
            if self.step(&start, byte)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Grants the work of one operation.
    pub(crate) fn refuel(&mut self) {
        match self {
            Self::Literals(_) | Self::Table(_) => {}
            Self::Regex(regex) => regex.0.refuel(),
            Self::Nested(constraint) => constraint.locked().begin(&[]),
        }
    }

    /// Heap bytes of the automaton as far as it was built.
    pub(crate) fn built_bytes(&self) -> usize {
        match self {
            Self::Regex(regex) => regex.0.built_bytes(),
            Self::Literals(_) | Self::Table(_) | Self::Nested(_) => 0,
        }
    }

    /// Heap bytes, of a nested constraint all of it.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Nested(constraint) => constraint.n_bytes(),
            Self::Literals(trie) => trie.n_bytes(),
            Self::Table(table) => table.n_bytes(),
            Self::Regex(_) => self.built_bytes() + self.fixed_bytes(),
        }
    }

    /// Heap bytes of the automaton that do not grow.
    pub(crate) fn fixed_bytes(&self) -> usize {
        match self {
            Self::Regex(regex) => regex.0.fixed_bytes(),
            Self::Literals(_) | Self::Table(_) | Self::Nested(_) => 0,
        }
    }
}

/// Most characters of a class that is spelled out as literals.
const MAX_CLASS: usize = 32;

/// The strings of a regex that is a choice of literals, which may share a beginning or an end.
pub(crate) fn literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Alternation(options) => {
            let options: Option<Vec<_>> = options.iter().map(literals).collect();
            Some(options?.into_iter().flatten().collect())
        }
        HirKind::Class(Class::Unicode(class)) => {
            let n_chars: usize = class.iter().map(|range| range.len()).sum();
            let chars = class.iter().flat_map(|range| range.start()..=range.end());
            let spelled = |c: char| c.encode_utf8(&mut [0; 4]).as_bytes().to_vec();
            (n_chars <= MAX_CLASS).then(|| chars.map(spelled).collect())
        }
        HirKind::Concat(parts) => {
            let mut joined = vec![Vec::new()];
            for part in parts {
                let part = literals(part)?;
                if part.len() != 1 && joined.len() != 1 {
                    return None;
                }
                let pairs = joined.iter().flat_map(|a| part.iter().map(move |b| (a, b)));
                joined = pairs.map(|(a, b)| [a.as_slice(), b].concat()).collect();
            }
            Some(joined)
        }
        _ => None,
    }
}
