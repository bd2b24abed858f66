//! How an engine is opened, and what can go wrong while it is.

use lmrun_kernels::{CudaError, KvFormat};
use lmrun_model::{ModelError, Precision, Quantisation};

use crate::DeviceChoice;

/// How an engine is opened. The default suits a desktop machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads that compute; 0 takes every core.
    pub n_threads: usize,
    /// Tokens of KV memory in the pool; 0 takes what 1 GiB holds.
    pub kv_tokens: usize,
    /// How keys and values are stored; f32 is for the CPU alone, f16 and fp8 for GPUs.
    pub kv_format: KvFormat,
    /// Tokens a page holds; at least 1.
    pub page_size: usize,
    /// Tokens computed in one step at most, running decodes excepted; at least 1.
    pub max_batch_tokens: usize,
    /// Requests that run at once; at least 1.
    pub max_running: usize,
    /// Requests that may wait; one more is refused with [`crate::RequestError::QueueFull`].
    pub max_waiting: usize,
    /// Whether prefixes are shared between requests and kept after them.
    pub prefix_cache: bool,
    /// Whether tokens that a constraint forces are computed together. It changes no output.
    pub forcing: bool,
    /// What matrices of plain weights are quantised to while they are loaded; `None` leaves them as they are.
    pub quantisation: Option<Quantisation>,
    /// The arithmetic.
    pub precision: Precision,
    /// Where the model computes.
    pub device: DeviceChoice,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            n_threads: 0,
            kv_tokens: 0,
            kv_format: KvFormat::Plain,
            page_size: 16,
            max_batch_tokens: 512,
            max_running: 64,
            max_waiting: 1024,
            prefix_cache: true,
            forcing: true,
            quantisation: None,
            precision: Precision::default(),
            device: DeviceChoice::default(),
        }
    }
}

impl EngineOptions {
    /// # Errors
    /// [`EngineError::Option`] for the first option below its least value.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let options = [
            ("page_size", self.page_size),
            ("max_batch_tokens", self.max_batch_tokens),
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
        ];
        match options.into_iter().find(|&(_, given)| given == 0) {
            None => Ok(()),
            Some((name, given)) => Err(EngineError::Option {
                name,
                given,
                limit: 1,
            }),
        }
    }
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The checkpoint could not be read or its decoder not be built.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The GPU that was asked for cannot be used.
    #[error("cannot use the GPU: {0}; `lmrun doctor` tells what this machine has")]
    Gpu(#[from] CudaError),
    /// An option is out of range.
    #[error("engine option {name} is {given}, it must be at least {limit}")]
    Option {
        /// The field of [`EngineOptions`].
        name: &'static str,
        /// What was given.
        given: usize,
        /// The least there can be.
        limit: usize,
    },
    /// The operating system refused the engine's thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}
