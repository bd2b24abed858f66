//! Regular languages: patterns ([`syntax`]) determinised byte by byte as outputs visit them
//! ([`dfa`]), or at once where conditions are combined ([`condition`], [`product`]).

mod boolean;
pub(crate) mod condition;
pub(crate) mod dfa;
pub(crate) mod fold;
mod marked;
mod node;
mod outline;
pub(crate) mod parser;
pub(crate) mod product;
pub(crate) mod program;
pub(crate) mod reach;
mod set;
pub(crate) mod syntax;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod words;
