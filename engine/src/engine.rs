//! Opening and closing an engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lmrun_grammar::Vocabulary;
use lmrun_model::{Checkpoint, Tokenizer};

use crate::handle::{Handle, Loaded};
use crate::info::ModelInfo;
use crate::options::{EngineError, EngineOptions};

/// A loaded model and the thread that runs it. Dropping it ends every request with
/// [`crate::RequestError::ShuttingDown`].
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
}

impl Engine {
    /// Loads a checkpoint, a GGUF file or a Hugging Face folder, and starts the engine's thread.
    ///
    /// # Errors
    /// If the checkpoint cannot be loaded or an option is out of range.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let Checkpoint {
            config,
            tokenizer,
            chat_template,
            ..
        } = Checkpoint::open(path)?;
        let vocabulary = Arc::new(vocabulary_of(&tokenizer));
        let info = ModelInfo::new(&config, None, options.kv_tokens);
        let loaded = Loaded {
            info,
            tokenizer,
            vocabulary,
            chat_template,
        };
        Ok(Self {
            handle: Handle::new(Arc::new(loaded)),
        })
    }

    /// A door to the engine.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops admission, lets what was submitted run for at most `drain`, then ends the rest with
    /// [`crate::RequestError::ShuttingDown`].
    pub fn shutdown(self, drain: Duration) {
        let _ = drain;
        self.handle.begin_shutdown();
    }
}

/// The tokens as byte strings; special ones have none.
fn vocabulary_of(tokenizer: &Tokenizer) -> Vocabulary {
    let tokens = (0..tokenizer.n_vocab() as u32)
        .map(|id| tokenizer.token_bytes(id).map(Box::from))
        .collect();
    Vocabulary::new(tokens, tokenizer.end_tokens().to_vec())
}
