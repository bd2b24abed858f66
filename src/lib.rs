//! What the `lmrun` command is made of and its tests and examples share: getting a model, testing constraints.

pub mod grammar_suite;
pub mod models;
