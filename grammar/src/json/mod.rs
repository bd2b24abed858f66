//! JSON texts that satisfy a schema.
//!
//! A schema is never turned into a grammar. There is one JSON parser, a stack of open values
//! ([`machine`]), and each open value carries the shape it must take ([`shape`]). Schemas are read
//! place by place ([`schema`]), and the shapes of each set of schemas that meet at one place are
//! compiled and pruned ([`compile`]).

mod alternatives;
pub(crate) mod automaton;
mod closing;
mod compile;
mod context;
mod decimal;
mod document;
mod draft;
mod escape;
mod expand;
mod finish;
mod form;
mod formats;
mod frame;
mod gather;
pub(crate) mod inside;
mod interner;
mod judge;
mod keywords;
mod lengths;
pub(crate) mod machine;
mod masks;
pub(crate) mod members;
mod naming;
mod nearest;
mod number;
mod object;
mod opening;
mod overlap;
mod patterns;
mod plain;
mod programs;
mod schema;
mod search;
mod searched;
mod shape;
mod string;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod unevaluated;
mod values;
mod verdict;
