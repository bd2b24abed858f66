//! Runs a checked program against a backend.
//!
//! [`check`] reads a source; [`run`] walks its syntax tree: text joins a context of token ids, generations ask a
//! [`Backend`], branches run side by side. What happens is told as [`Event`]s, what it came to as an [`Envelope`].
//!
//! Words: a *run* of text is what is tokenised at once; a *turn* is a role's part of a chat; a *branch* is one path
//! through the program with a context of its own; *healing* gives back the last token before a generation, so that
//! where text was cut does not show in how it is tokenised.

mod arguments;
mod backend;
mod budget;
mod call;
mod cancel;
mod conform;
mod constraint;
mod context;
mod dry_run;
mod envelope;
mod event;
mod expr;
mod fork;
mod gen_options;
mod generate;
mod library;
mod machine;
mod operators;
mod prepare;
mod run;
mod scope;
mod seed;
mod select;
mod stmt;
mod turns;
mod value;
mod walk;

pub use arguments::{ArgumentError, Arguments, check, parse_argument};
pub use backend::{
    Backend, BackendError, Call, Capabilities, Cost, EngineBackend, FinishReason, Finished,
    Generate, Generated, Prompt, Sampling, ScriptBackend, Token, TokenId, Tokens,
};
pub use cancel::Cancel;
pub use envelope::{Envelope, ErrorKind, GenRecord, RunError, Status, Usage};
pub use event::{Event, Place};
pub use run::{Limits, RunOptions, run};
