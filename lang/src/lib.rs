//! The `.lmp` language: source text to syntax tree to checked program, and the diagnostics on the way.
//!
//! Words: an *emission* is text appended to the conversation; a *generation* is what `gen` or `select` binds; a
//! *hole* is a `${..}` in a string. The order of work is [`parse`] (source to [`ast`]), [`check`] (names, types,
//! emission rules, options), and a [`Program`] that answers what an interpreter asks. Nothing here knows a model or
//! a token; what only an automaton can tell is asked of a [`Host`].

pub mod ast;
mod check;
mod diagnostic;
mod library;
mod options;
mod program;
mod syntax;

pub use check::{Checked, Host, NoHost, check};
pub use diagnostic::{Diagnostic, Severity, explain, line_column, render, to_json};
pub use library::{LIBRARY, Signature};
pub use options::{OptionSpec, OptionValue, Place, options_of};
pub use program::{Input, Program};
pub use syntax::{MAX_BYTES, MAX_DEPTH, parse};
