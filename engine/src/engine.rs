//! Opening and closing an engine.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use lmrun_grammar::Vocabulary;
use lmrun_model::{Checkpoint, Config, Decoder, DecoderOptions, LoadProgress, Specials, Tokenizer};

use crate::door::{self, Door};
use crate::draft::Drafter;
use crate::handle::{Handle, Loaded};
use crate::info::ModelInfo;
use crate::options::{EngineError, EngineOptions};
use crate::scheduler::Limits;
use crate::step::Core;
use crate::validate::RequestLimits;

/// KV memory of a default pool, in bytes.
const DEFAULT_KV_BYTES: usize = 1 << 30;

/// A loaded model and the thread that runs it. Dropping it ends every request with
/// [`crate::RequestError::ShuttingDown`].
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    worker: Worker,
}

impl Engine {
    /// Loads a checkpoint, a GGUF file or a Hugging Face folder, and starts the engine's thread.
    ///
    /// # Errors
    /// If the checkpoint cannot be loaded or an option is out of range.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        Self::open_with_progress(path, options, |_| {})
    }

    /// As [`Engine::open`], telling `listener` how far the weights are loaded: after each tensor, on the caller's thread.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_with_progress(
        path: &Path,
        options: &EngineOptions,
        listener: impl Fn(LoadProgress) + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        options.check()?;
        let checkpoint = Checkpoint::open(path)?.with_progress(listener);
        let stored_type = checkpoint.weight_type()?;
        let few_pages = decoder_options(&checkpoint.config, options, 1);
        let (place, gpu) = options.device.open(&checkpoint, &stored_type, &few_pages)?;
        let n_kv_bytes = match &gpu {
            None => DEFAULT_KV_BYTES,
            Some(gpu) => gpu_kv_bytes(gpu.memory()?.0, checkpoint.n_gpu_bytes()),
        };
        let decoder_options = decoder_options(&checkpoint.config, options, n_kv_bytes);
        let decoder = match gpu {
            None => checkpoint.decoder(&decoder_options)?,
            Some(gpu) => checkpoint.decoder_on_gpu(gpu, &decoder_options)?,
        };
        let weight_type = match options.quantisation {
            None => stored_type,
            Some(quantisation) => quantisation.name().to_owned(),
        };
        let Checkpoint {
            config,
            tokenizer,
            chat_template,
            ..
        } = checkpoint;
        let vocabulary = Arc::new(vocabulary_of(&tokenizer));
        let kv_tokens = decoder_options.n_pages * decoder_options.page_size;
        let info = ModelInfo::new(&config, weight_type, kv_tokens, place);
        let drafter = options.forcing.then(|| {
            let tokenizer = Arc::clone(&tokenizer);
            let encode = move |text: &str| tokenizer.encode(text, Specials::AsText);
            Drafter::new(Box::new(encode), Arc::clone(&vocabulary))
        });
        let worker = Worker::start(decoder, Arc::clone(&vocabulary), drafter, options)?;
        let loaded = Loaded {
            info,
            tokenizer,
            vocabulary,
            chat_template,
        };
        let handle = Handle::new(Arc::new(loaded), Arc::clone(&worker.door));
        Ok(Self { handle, worker })
    }

    /// A door to the engine.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops admission, lets what was submitted run for at most `drain`, then ends the rest with
    /// [`crate::RequestError::ShuttingDown`].
    pub fn shutdown(mut self, drain: Duration) {
        self.worker.stop(drain);
    }
}

/// The engine thread and the door to it.
pub(crate) struct Worker {
    pub(crate) door: Arc<Door>,
    /// None once joined.
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(
        decoder: Box<dyn Decoder>,
        vocabulary: Arc<Vocabulary>,
        drafter: Option<Drafter>,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let request_limits = RequestLimits {
            context_length: decoder.config().context_length,
            page_size: decoder.page_size(),
            n_pages: decoder.n_pages(),
            n_logits: decoder.config().n_vocab,
            vocabulary,
            drafter: drafter.map(Arc::new),
        };
        let limits = Limits {
            max_batch_tokens: options.max_batch_tokens,
            max_running: options.max_running,
        };
        let core = Core::new(decoder, limits, options.prefix_cache);
        let (sender, messages) = mpsc::channel();
        let door = Arc::new(Door::new(sender, request_limits, options.max_waiting));
        let inside = Arc::clone(&door);
        let thread = std::thread::Builder::new()
            .name("lmrun-engine".into())
            .spawn(move || door::run(core, &inside, &messages))
            .map_err(EngineError::Thread)?;
        Ok(Self {
            door,
            thread: Some(thread),
        })
    }

    /// Waits for the requests, at most for `drain`, and for the thread.
    pub(crate) fn stop(&mut self, drain: Duration) {
        self.door.drain_and_stop(drain);
        if let Some(thread) = self.thread.take() {
            // Its panics were caught step by step; one between steps has lost only what is being dropped.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop(Duration::ZERO);
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// What a GPU's pool may take by default: nine tenths of what is free, less the weights; the rest is for activations.
fn gpu_kv_bytes(n_free_bytes: usize, n_weight_bytes: u64) -> usize {
    let n_weight_bytes = usize::try_from(n_weight_bytes).unwrap_or(usize::MAX);
    (n_free_bytes / 10 * 9).saturating_sub(n_weight_bytes)
}

/// The decoder's options; a pool of no given size takes `n_kv_bytes`.
fn decoder_options(config: &Config, options: &EngineOptions, n_kv_bytes: usize) -> DecoderOptions {
    let n_cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let kv_tokens = match options.kv_tokens {
        0 => {
            let n_heads = 2 * config.layers.len() * config.n_kv_heads;
            n_kv_bytes / (n_heads * options.kv_format.head_bytes(config.head_dim)).max(1)
        }
        given => given,
    };
    DecoderOptions {
        precision: options.precision,
        n_threads: if options.n_threads == 0 {
            n_cores()
        } else {
            options.n_threads
        },
        page_size: options.page_size,
        n_pages: kv_tokens.div_ceil(options.page_size).max(1),
        kv_format: options.kv_format,
        quantisation: options.quantisation,
    }
}

/// The tokens of a checkpoint as byte strings, without loading its weights.
///
/// # Errors
/// If the checkpoint cannot be opened.
pub fn open_vocabulary(path: &Path) -> Result<Arc<Vocabulary>, EngineError> {
    let checkpoint = Checkpoint::open(path)?;
    Ok(Arc::new(vocabulary_of(&checkpoint.tokenizer)))
}

/// The tokens as byte strings; special ones have none.
fn vocabulary_of(tokenizer: &Tokenizer) -> Vocabulary {
    let tokens = (0..tokenizer.n_vocab() as u32)
        .map(|id| tokenizer.token_bytes(id).map(Box::from))
        .collect();
    Vocabulary::new(tokens, tokenizer.end_tokens().to_vec())
}
