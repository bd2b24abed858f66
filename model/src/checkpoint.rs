//! A checkpoint on disk: a GGUF file or a Hugging Face folder.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use lmrun_kernels::{Cpu, Reference};

use crate::decoder::DeviceDecoder;
use crate::gguf::Gguf;
use crate::weights::{LayerWeight, RawTensor, Source, Weight};
use crate::{
    ChatTemplate, Config, Decoder, DecoderOptions, ModelError, Precision, Tokenizer, config,
    tokenizer,
};

/// An opened checkpoint: everything but the weights is read, the weights are mapped.
pub struct Checkpoint {
    /// The decoder's shapes and switches.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template, if the checkpoint has one.
    pub chat_template: Option<ChatTemplate>,
    source: Box<dyn Source + Send + Sync>,
}

impl Checkpoint {
    /// Opens a `.gguf` file, which is mapped into memory, or a Hugging Face folder.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds a model or tokenizer that is not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let checkpoint = Self::open_gguf(path)?;
        let (n_tokens, n_rows) = (checkpoint.tokenizer.n_vocab(), checkpoint.config.n_vocab);
        if n_tokens > n_rows {
            let reason = format!("{n_tokens} tokens, the embedding has {n_rows} rows");
            return Err(ModelError::Invalid {
                path: path.to_owned(),
                reason,
            });
        }
        Ok(checkpoint)
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        let gguf = Gguf::open(path)?;
        let config = config::gguf::read(&gguf, path)?;
        let tokenizer = tokenizer::gguf::read(&gguf)?;
        let template = gguf
            .string("tokenizer.chat_template")
            .map_err(|e| gguf.invalid(e))?;
        let chat_template = match template {
            None => None,
            Some(text) => Some(ChatTemplate::new(
                text,
                tokenizer::gguf::named_tokens(&gguf, &tokenizer)?,
            )?),
        };
        let tokenizer = Arc::new(tokenizer);
        Ok(Self {
            config,
            tokenizer,
            chat_template,
            source: Box::new(gguf),
        })
    }

    /// Loads the weights and makes a decoder of them.
    ///
    /// # Errors
    /// If an option is out of range, or a tensor is missing, misshapen or of an unknown type.
    pub fn decoder(&self, options: &DecoderOptions) -> Result<Box<dyn Decoder>, ModelError> {
        for (what, value, limit) in [
            ("threads", options.n_threads, 1 << 10),
            ("tokens a page", options.page_size, 1 << 16),
            ("pages", options.n_pages, u32::MAX as usize),
        ] {
            if !(1..=limit).contains(&value) {
                return Err(ModelError::Options(format!(
                    "{value} {what}, expected 1 to {limit}"
                )));
            }
        }
        let (source, config) = (&*self.source, &self.config);
        Ok(match options.precision {
            Precision::Reference => {
                let device = Reference::new(options.n_threads);
                Box::new(DeviceDecoder::load(device, source, config, options)?)
            }
            Precision::Quantised => {
                let device = Cpu::new(options.n_threads);
                Box::new(DeviceDecoder::load(device, source, config, options)?)
            }
        })
    }
}

impl Source for Gguf {
    fn name(&self, weight: Weight) -> String {
        use LayerWeight as L;
        let (layer_idx, weight) = match weight {
            Weight::Embedding => return "token_embd.weight".into(),
            Weight::FinalNorm => return "output_norm.weight".into(),
            Weight::Head => return "output.weight".into(),
            Weight::Layer(layer_idx, weight) => (layer_idx, weight),
        };
        let name = match weight {
            L::AttentionNorm => "attn_norm.weight",
            L::Query => "attn_q.weight",
            L::Key => "attn_k.weight",
            L::Value => "attn_v.weight",
            L::QueryBias => "attn_q.bias",
            L::KeyBias => "attn_k.bias",
            L::ValueBias => "attn_v.bias",
            L::QueryNorm => "attn_q_norm.weight",
            L::KeyNorm => "attn_k_norm.weight",
            L::Output => "attn_output.weight",
            L::OutputBias => "attn_output.bias",
            L::FfNorm => "ffn_norm.weight",
            L::Gate => "ffn_gate.weight",
            L::Up => "ffn_up.weight",
            L::Down => "ffn_down.weight",
        };
        format!("blk.{layer_idx}.{name}")
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        Ok(Gguf::tensor(self, name).map(|(info, bytes)| RawTensor {
            shape: info.shape.clone(),
            dtype: info.dtype,
            bytes: Cow::Borrowed(bytes),
        }))
    }

    fn invalid(&self, reason: String) -> ModelError {
        Gguf::invalid(self, reason)
    }
}
