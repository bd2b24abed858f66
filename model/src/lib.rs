//! Checkpoints: configuration, tokenizer, chat template, weights, and one decoder.
//!
//! [`Checkpoint::open`] reads a GGUF file or a Hugging Face folder; [`Checkpoint::decoder`] loads its
//! weights onto a device and answers with a [`Decoder`], which turns a ragged [`Batch`] of token
//! spans into [`Logits`] and keeps keys and values in numbered pages. Which sequence owns which page
//! is the caller's business.

mod batch;
mod chat_template;
mod checkpoint;
mod config;
mod decoder;
mod error;
mod folder;
mod gguf;
mod quantise;
mod stream;
#[cfg(test)]
mod tests;
mod tokenizer;
mod trial;
mod weights;

pub use batch::{Batch, Decoder, DecoderOptions, Logits, Outputs, Pick, Precision, Span};
pub use chat_template::ChatTemplate;
pub use checkpoint::Checkpoint;
pub use config::{Activation, Architecture, Config, LayerConfig, Rope, RopeLayout, RopeScaling};
pub use error::ModelError;
pub use quantise::Quantisation;
pub use stream::TextStream;
pub use tokenizer::{Specials, Tokenizer};
pub use weights::LoadProgress;

/// The index of a token in the checkpoint's vocabulary.
pub type TokenId = u32;
