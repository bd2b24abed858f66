//! The `.lmp` language: source text to a syntax tree to a checked program, with diagnostics.

pub mod ast;
