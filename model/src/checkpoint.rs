//! A checkpoint on disk: a GGUF file or a Hugging Face folder.

use std::path::Path;
use std::sync::Arc;

use lmrun_kernels::{Cpu, Cuda, KernelError, KvFormat, Reference};

use crate::decoder::DeviceDecoder;
use crate::folder::Folder;
use crate::gguf::Gguf;
use crate::weights::{LayerWeight, Listener, Source, Weight};
use crate::{
    ChatTemplate, Config, Decoder, DecoderOptions, LoadProgress, ModelError, Precision, Tokenizer,
    config, tokenizer, weights,
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
    listener: Option<Box<Listener>>,
}

impl Checkpoint {
    /// Opens a `.gguf` file, which is mapped into memory, or a Hugging Face folder.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds a model or tokenizer that is not supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let checkpoint = if path.is_dir() {
            Self::open_folder(path)?
        } else {
            Self::open_gguf(path)?
        };
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
            listener: None,
        })
    }

    fn open_folder(path: &Path) -> Result<Self, ModelError> {
        let folder = Folder::open(path)?;
        let config = config::folder::read(&folder)?;
        let settings = tokenizer::folder::Settings::read(&folder)?;
        let tokenizer = tokenizer::folder::read(&folder, &settings)?;
        let chat_template = match &settings.chat_template {
            None => None,
            Some(text) => Some(ChatTemplate::new(text, settings.special_tokens.clone())?),
        };
        let tokenizer = Arc::new(tokenizer);
        Ok(Self {
            config,
            tokenizer,
            chat_template,
            source: Box::new(folder),
            listener: None,
        })
    }

    /// This checkpoint, whose decoders tell `listener` how far they are while they load, after each tensor. It is called on
    /// the thread that loads, and should not take long.
    #[must_use]
    pub fn with_progress(self, listener: impl Fn(LoadProgress) + Send + Sync + 'static) -> Self {
        Self {
            listener: Some(Box::new(listener)),
            ..self
        }
    }

    /// What decoders load from, and who hears how far they are.
    fn weights(&self) -> Weights<'_> {
        (self.source(), self.listener.as_deref())
    }

    /// The tensors.
    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// How most weights are stored, in ggml's names (`Q4_1`, `BF16`): the type of the first layer's gate matrix.
    ///
    /// # Errors
    /// If the matrix is missing or of an unknown type.
    pub fn weight_type(&self) -> Result<String, ModelError> {
        let name = self.source.name(Weight::Layer(0, LayerWeight::Gate));
        match self.source.tensor(&name)? {
            // ggml writes the K types `Q4_K`, candle-core `Q4K`.
            Some(tensor) => {
                let name = format!("{:?}", tensor.dtype);
                Ok(match name.strip_suffix('K') {
                    Some(bits) => format!("{bits}_K"),
                    None => name,
                })
            }
            None => Err(self.source.invalid(format!("tensor {name} is missing"))),
        }
    }

    /// Bytes of a GPU's memory that the weights take, if they are not quantised while they are loaded.
    #[must_use]
    pub fn n_gpu_bytes(&self) -> u64 {
        weights::n_gpu_bytes(&*self.source)
    }

    /// Loads the weights and makes a decoder of them.
    ///
    /// # Errors
    /// If an option is out of range or not for this precision, or a tensor is missing, misshapen or of an unknown type.
    pub fn decoder(&self, options: &DecoderOptions) -> Result<Box<dyn Decoder>, ModelError> {
        on_cpu(self.weights(), &self.config, options)
    }

    /// Loads the weights onto a GPU and makes a decoder of them. Weights stay quantised as they are; products round
    /// activations to 16 bits.
    ///
    /// # Errors
    /// As [`Checkpoint::decoder`]; also if the reference precision is asked for, which is the CPU's, or the heads are of a
    /// size that the GPU's attention does not take.
    pub fn decoder_on_gpu(
        &self,
        device: Cuda,
        options: &DecoderOptions,
    ) -> Result<Box<dyn Decoder>, ModelError> {
        on_gpu(device, self.weights(), &self.config, options)
    }
}

/// What weights come from, and who hears how far their loading is.
type Weights<'a> = (&'a dyn Source, Option<&'a Listener>);

/// A decoder on the CPU, as [`Checkpoint::decoder`].
pub(crate) fn on_cpu(
    weights: Weights<'_>,
    config: &Config,
    options: &DecoderOptions,
) -> Result<Box<dyn Decoder>, ModelError> {
    check(options)?;
    Ok(match options.precision {
        Precision::Reference => {
            if !matches!(options.kv_format, KvFormat::Plain | KvFormat::F32) {
                return Err(refused(&KernelError::KvFormat {
                    device: "the reference precision",
                    given: options.kv_format,
                    known: "f32",
                }));
            }
            let device = Reference::new(options.n_threads);
            Box::new(DeviceDecoder::load(device, weights, config, options)?)
        }
        Precision::Quantised => {
            let device = Cpu::new(options.n_threads);
            let device = device
                .with_kv_format(options.kv_format)
                .map_err(|error| refused(&error))?;
            Box::new(DeviceDecoder::load(device, weights, config, options)?)
        }
    })
}

/// A decoder on a GPU, as [`Checkpoint::decoder_on_gpu`].
pub(crate) fn on_gpu(
    device: Cuda,
    weights: Weights<'_>,
    config: &Config,
    options: &DecoderOptions,
) -> Result<Box<dyn Decoder>, ModelError> {
    check(options)?;
    if options.precision == Precision::Reference {
        let reason = "the reference precision computes on the CPU, not on a GPU";
        return Err(ModelError::Options(reason.into()));
    }
    let device = device
        .with_kv_format(options.kv_format)
        .map_err(|error| refused(&error))?;
    Ok(Box::new(DeviceDecoder::load(
        device, weights, config, options,
    )?))
}

/// What a device does not do for these options.
fn refused(error: &KernelError) -> ModelError {
    ModelError::Options(error.to_string())
}

/// That every option is in its range.
fn check(options: &DecoderOptions) -> Result<(), ModelError> {
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
    Ok(())
}
