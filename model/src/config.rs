//! What a checkpoint says about its decoder: shapes, constants and switches.
//!
//! A model family is a choice of switches here, not code of its own.

pub(crate) mod folder;
pub(crate) mod gguf;

pub use lmrun_kernels::RopeLayout;

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

/// Bounds that every model in use keeps by far, so that no product of them can overflow.
const LIMITS: Limits = Limits {
    n_layers: 1 << 10,
    n_heads: 1 << 12,
    width: 1 << 20,
    n_vocab: 1 << 21,
};

struct Limits {
    n_layers: usize,
    n_heads: usize,
    width: usize,
    n_vocab: usize,
}

impl Config {
    /// That the numbers are in range and fit together; the error says which do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let in_range = |what: &str, value: usize, limit: usize| {
            let is_fine = (1..=limit).contains(&value);
            is_fine
                .then_some(())
                .ok_or_else(|| format!("{what} is {value}, expected 1 to {limit}"))
        };
        in_range("the number of layers", self.n_layers, LIMITS.n_layers)?;
        in_range("the number of heads", self.n_heads, LIMITS.n_heads)?;
        in_range("the number of key heads", self.n_kv_heads, LIMITS.n_heads)?;
        in_range("the length of a head", self.head_dim, LIMITS.width)?;
        in_range("the hidden length", self.hidden, LIMITS.width)?;
        in_range("the feed-forward length", self.ff, LIMITS.width)?;
        in_range("the vocabulary", self.n_vocab, LIMITS.n_vocab)?;
        in_range("the context length", self.context_length, u32::MAX as usize)?;
        in_range(
            "the length of all heads",
            self.n_heads * self.head_dim,
            LIMITS.width,
        )?;
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let (n_heads, n_kv_heads) = (self.n_heads, self.n_kv_heads);
            return Err(format!(
                "{n_heads} heads cannot share {n_kv_heads} key heads evenly"
            ));
        }
        if !self.head_dim.is_multiple_of(HEAD_MULTIPLE) {
            let head_dim = self.head_dim;
            return Err(format!(
                "heads of {head_dim} elements, expected a multiple of {HEAD_MULTIPLE}"
            ));
        }
        let positive = |what: &str, value: f32| {
            let is_fine = value.is_finite() && value > 0.0;
            is_fine
                .then_some(())
                .ok_or_else(|| format!("{what} is {value}, expected more than 0"))
        };
        positive("the norm's epsilon", self.norm_eps)?;
        positive("the rotation's base", self.rope.theta)?;
        match self.rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => positive("the rotation's factor", factor)?,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                ..
            } => {
                positive("the rotation's factor", factor)?;
                positive(
                    "high_freq_factor - low_freq_factor",
                    high_freq_factor - low_freq_factor,
                )?;
            }
        }
        self.rope
            .factors
            .iter()
            .flatten()
            .try_for_each(|f| positive("a rotation's divisor", *f))
    }
}

/// Heads are whole vectors of the kernels.
const HEAD_MULTIPLE: usize = 16;

/// The rotation of each pair of elements, in radians a position: `[head_dim / 2]`.
///
/// Source: Su et al. 2021; for Llama 3.1's scaling, `modeling_rope_utils.py` of Transformers.
pub(crate) fn rope_frequencies(config: &Config) -> Vec<f32> {
    use std::f64::consts::TAU;
    let rope = &config.rope;
    (0..config.head_dim / 2)
        .map(|pair_idx| {
            let exponent = 2.0 * pair_idx as f64 / config.head_dim as f64;
            let frequency = f64::from(rope.theta).powf(-exponent);
            if let Some(factors) = &rope.factors {
                return (frequency / f64::from(factors[pair_idx])) as f32;
            }
            let scaled = match rope.scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear { factor } => frequency / f64::from(factor),
                RopeScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_context,
                } => {
                    let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                    let n_turns = original_context as f64 * frequency / TAU;
                    // 0: a low frequency, divided; 1: a high one, kept.
                    let share = ((n_turns - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (share + (1.0 - share) / f64::from(factor))
                }
            };
            scaled as f32
        })
        .collect()
}
