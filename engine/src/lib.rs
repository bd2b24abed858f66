//! Requests to sampled tokens: the scheduler, the KV pool, the cache index, the sampler, and the one thread that owns
//! them.

mod device;
mod door;
mod draft;
mod engine;
mod generation;
mod guide;
mod handle;
mod info;
mod memory;
mod options;
mod output;
mod request;
mod row;
mod sampler;
mod scheduler;
mod score;
mod stats;
mod step;
#[cfg(test)]
mod tests;
mod validate;

pub use device::{DeviceChoice, Place};
pub use engine::{Engine, open_vocabulary};
pub use handle::{Handle, RequestId};
pub use info::ModelInfo;
pub use lmrun_kernels::{Cpu, CudaError, CudaProbe, GpuInfo, KernelError, KvFormat, Peak, Tier};
pub use lmrun_model::{
    ChatTemplate, LoadProgress, ModelError, Precision, Quantisation, Specials, TextStream, TokenId,
    Tokenizer,
};
pub use options::{EngineError, EngineOptions};
pub use request::{
    Event, FinishReason, Finished, Generate, Request, RequestError, Sampling, Sink, Token, Usage,
    Work,
};
pub use stats::Stats;
