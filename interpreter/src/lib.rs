//! Runs a checked program against a backend.
//!
//! [`check`] reads a source; [`run`] walks its syntax tree: text joins a context of token ids, generations ask a
//! [`Backend`], branches are tasks. What happens is told as [`Event`]s, what it came to as an [`Envelope`].

mod arguments;
mod backend;
mod cancel;
mod envelope;
mod event;
mod run;

pub use arguments::{ArgumentError, Arguments, check, parse_argument};
pub use backend::{
    Backend, BackendError, Call, Capabilities, Cost, EngineBackend, FinishReason, Finished,
    Generate, Generated, Prompt, Sampling, ScriptBackend, Token, TokenId, Tokens,
};
pub use cancel::Cancel;
pub use envelope::{Envelope, ErrorKind, GenRecord, RunError, Status, Usage};
pub use event::{Event, Place};
pub use run::{Limits, RunOptions, run};
