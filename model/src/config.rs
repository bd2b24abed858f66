//! What a checkpoint says about its decoder: shapes, constants and switches.
//!
//! A model family is a choice of switches here, not code of its own.

/// A decoder family that is known to fit the one decoder of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM 1 and 2, and Mistral without a sliding window.
    Llama,
    /// Qwen 2 and 2.5: biases on q, k and v.
    Qwen2,
    /// Qwen 3: an RMS norm on each query and key head.
    Qwen3,
}

/// Which elements of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// Elements 2i and 2i + 1 (GGUF files of the llama architecture).
    Interleaved,
    /// Elements i and i + head_dim / 2 (Hugging Face folders; GGUF files of Qwen).
    Halves,
}

/// How rotation frequencies are changed for contexts longer than those trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor, at least 1.
        factor: f32,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies, at least 1.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are low frequencies.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` are high frequencies.
        high_freq_factor: f32,
        /// The context length trained on, in tokens.
        original_context: usize,
    },
}

/// Rotary position embedding (Su et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the geometric sequence of frequencies.
    pub theta: f32,
    /// Which elements of a head form a pair.
    pub layout: RopeLayout,
    /// Long-context scaling.
    pub scaling: RopeScaling,
    /// A divisor for each frequency, `[head_dim / 2]`, where the file holds one
    /// (`rope_freqs.weight`); it stands in for `scaling`.
    pub factors: Option<Vec<f32>>,
}

/// The shapes, constants and switches of one checkpoint's decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The checkpoint's own name, else its file or folder name.
    pub name: String,
    /// The family.
    pub architecture: Architecture,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads of a layer.
    pub n_heads: usize,
    /// Key and value heads of a layer; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Elements of the feed-forward layer.
    pub ff: usize,
    /// Rows of the embedding and of the logits.
    pub n_vocab: usize,
    /// The longest sequence the checkpoint is made for, in tokens.
    pub context_length: usize,
    /// Added to the mean square under every RMS norm's root.
    pub norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Whether the logits are computed with the embedding's own rows.
    pub tied_head: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention output has a bias.
    pub output_bias: bool,
    /// Whether each query and key head passes an RMS norm before rotation.
    pub qk_norm: bool,
}
