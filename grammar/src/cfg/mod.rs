//! Context-free grammars over bytes, with regexes and whole constraints as their terminals.
//!
//! A grammar is read from one of two dialects ([`lark`], [`gbnf`]) into expressions ([`expr`]),
//! in which whatever is regular becomes one terminal. What is left is compiled to a graph of
//! positions, one automaton a rule ([`compile`]), with the fewest bytes from each; [`corners`]
//! holds what follows from the grammar alone, and [`machine`] moves the parses of an output on.

pub(crate) mod compile;
mod corners;
pub(crate) mod expr;
pub(crate) mod gbnf;
pub(crate) mod lark;
mod library;
pub(crate) mod machine;
mod masks;
mod node;
mod source;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
