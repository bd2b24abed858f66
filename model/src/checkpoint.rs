//! A checkpoint on disk: a GGUF file or a Hugging Face folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{ChatTemplate, Config, Decoder, DecoderOptions, ModelError, Tokenizer};

/// An opened checkpoint: everything but the weights is read, the weights are mapped.
pub struct Checkpoint {
    /// The decoder's shapes and switches.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template, if the checkpoint has one.
    pub chat_template: Option<ChatTemplate>,
    path: PathBuf,
}

impl Checkpoint {
    /// Opens a `.gguf` file, which is mapped into memory, or a Hugging Face folder.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds a model or tokenizer that is not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Err(ModelError::Unsupported {
            path: path.to_owned(),
            what: "opening".into(),
        })
    }

    /// Loads the weights and makes a decoder of them.
    ///
    /// # Errors
    /// If an option is out of range, or a tensor is missing, misshapen or of an unknown type.
    pub fn decoder(&self, options: &DecoderOptions) -> Result<Box<dyn Decoder>, ModelError> {
        let _ = options;
        Err(ModelError::Unsupported {
            path: self.path.clone(),
            what: "decoding".into(),
        })
    }
}
