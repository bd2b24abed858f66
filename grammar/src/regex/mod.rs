//! Regular languages: patterns ([`syntax`]) determinised byte by byte as outputs visit them
//! ([`dfa`]).

pub(crate) mod dfa;
pub(crate) mod product;
mod reach;
pub(crate) mod syntax;
#[cfg(test)]
mod tests;
