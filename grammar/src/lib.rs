//! Regexes, JSON Schemas and choices as automata over token masks.
//!
//! A [`Constraint`] is a language of byte strings, compiled once and shared. A [`Matcher`] follows
//! one output through it: [`Matcher::mask`] says which tokens may come next, [`Matcher::accept`]
//! takes the one that was chosen. The crate knows tokens as byte strings ([`Vocabulary`]) and
//! nothing of models.
//!
//! Guarantees, each a property test:
//! - a mask holds exactly the tokens whose bytes keep the output a prefix of some string of the
//!   language;
//! - after any accepted tokens the mask is not empty, given a vocabulary with a token for every
//!   byte;
//! - end tokens are legal exactly when the output is complete.

mod alphabet;
mod bytes;
mod cache;
mod cfg;
mod closers;
mod constraint;
mod error;
mod fragments;
mod json;
mod language;
mod limits;
mod literals;
mod mask;
mod matcher;
mod memo;
mod openers;
mod options;
mod regex;
mod runs;
mod tags;
mod token_set;
mod trie;
mod vocabulary;

pub use cache::ConstraintCache;
pub use constraint::Constraint;
pub use error::GrammarError;
pub use limits::Limits;
pub use mask::TokenMask;
pub use matcher::Matcher;
pub use options::{JsonOptions, KeyOrder, NumberSpelling, RegexSyntax, Whitespace};
pub use tags::{StructuralTag, StructuralTags};
pub use vocabulary::Vocabulary;

/// Index of a token in its vocabulary.
pub type TokenId = u32;
