//! Requests to sampled tokens: the scheduler, the KV pool, the cache index, the sampler, and the one thread that owns
//! them.

mod handle;
mod request;

pub use handle::{Handle, RequestId};
pub use lmrun_model::TokenId;
pub use request::{
    Event, FinishReason, Finished, Generate, Request, RequestError, Sampling, Sink, Token, Usage,
    Work,
};
