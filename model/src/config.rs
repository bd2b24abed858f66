//! What a checkpoint says about its decoder: shapes, constants and switches.
//!
//! A model family is a choice of switches here, not code of its own.

pub(crate) mod folder;
pub(crate) mod gguf;

use std::f64::consts::TAU;

pub use lmrun_kernels::{Activation, RopeLayout};

/// A decoder family that is known to fit the one decoder of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM 1 and 2, and Mistral, whose first version has a window.
    Llama,
    /// Qwen 2 and 2.5: biases on q, k and v.
    Qwen2,
    /// Qwen 3: an RMS norm on each query and key head.
    Qwen3,
    /// SmolLM 3: every fourth layer rotates nothing.
    SmolLm3,
    /// Phi 3 and 4: q, k and v in one tensor, gate and up in another; part of a head is rotated.
    Phi3,
    /// Gemma 1: a scaled embedding, GELU gates.
    Gemma,
    /// Gemma 2: with it norms behind attention and feed-forward, capped scores and logits, and a window in every
    /// second layer.
    Gemma2,
    /// Gemma 3: norms of heads instead of caps, a window and a rotation of its own in five layers of six.
    Gemma3,
}

impl Architecture {
    /// The name in GGUF files, of which each has one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Phi3 => "phi3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
        }
    }

    /// Every family.
    pub(crate) const ALL: [Self; 8] = [
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::SmolLm3,
        Self::Phi3,
        Self::Gemma,
        Self::Gemma2,
        Self::Gemma3,
    ];

    /// Whether the embedding is scaled by the root of its length, gates are GELU and norms are stored less one.
    pub(crate) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// What an embedding of this length is multiplied by.
    pub(crate) fn embedding_scale(self, hidden: usize) -> f32 {
        if self.is_gemma() {
            (hidden as f32).sqrt()
        } else {
            1.0
        }
    }

    /// Whether attention and feed-forward are normalised once more before they are added.
    pub(crate) fn has_post_norms(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Whether query and key heads are normalised.
    pub(crate) fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }
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
    /// As [`RopeScaling::Llama3`], with a blend that is linear in the frequency's index (YaRN, Peng et al. 2023).
    Yarn {
        /// The divisor of low frequencies, at least 1.
        factor: f32,
        /// Frequencies that turn fewer times in the original context are low.
        beta_slow: f32,
        /// Frequencies that turn more often in it are high.
        beta_fast: f32,
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
    /// How many elements of a head are rotated, the first ones; even.
    pub n_rotated: usize,
    /// Long-context scaling.
    pub scaling: RopeScaling,
    /// A divisor for each frequency, `[n_rotated / 2]`, where the file holds one; it stands in for `scaling`.
    pub factors: Option<Vec<f32>>,
    /// What rotated elements are multiplied by (`attention_factor` of YaRN and LongRoPE); 1 elsewhere.
    pub scale: f32,
}

/// What tells one layer from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// How many positions a query sees, its own among them; `None`: all.
    pub window: Option<usize>,
    /// Which of [`Config::ropes`] rotates queries and keys; `None`: they are not rotated.
    pub rope: Option<usize>,
}

/// The shapes, constants and switches of one checkpoint's decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The checkpoint's own name, else its file or folder name.
    pub name: String,
    /// The family.
    pub architecture: Architecture,
    /// Decoder layers, in order.
    pub layers: Vec<LayerConfig>,
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
    /// Rotary position embeddings, of which each layer has at most one.
    pub ropes: Vec<Rope>,
    /// What the product of a query and a key is multiplied by.
    pub attention_scale: f32,
    /// The cap c of attention's scores, which become `c * tanh(score / c)`.
    pub score_softcap: Option<f32>,
    /// The cap of the logits.
    pub logit_softcap: Option<f32>,
    /// What an embedding is multiplied by.
    pub embedding_scale: f32,
    /// What becomes of a gate.
    pub activation: Activation,
    /// What every norm's stored weights lack: 1 where a checkpoint holds `w` and computes `x * (1 + w)`.
    pub norm_offset: f32,
    /// Whether attention and feed-forward pass a norm of their own before they are added to the residual stream.
    pub post_norms: bool,
    /// Whether q, k and v are one tensor, and gate and up another.
    pub is_fused: bool,
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
        positive("the norm's epsilon", self.norm_eps)?;
        positive("the attention's scale", self.attention_scale)?;
        positive("the embedding's scale", self.embedding_scale)?;
        positive("the cap of scores", self.score_softcap.unwrap_or(1.0))?;
        positive("the cap of logits", self.logit_softcap.unwrap_or(1.0))?;
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return Err("a window of no positions".into());
        }
        self.ropes
            .iter()
            .try_for_each(|rope| rope.check(self.head_dim))
    }

    /// Scores divided by the root of `n`, as nearly all families do with a head's length.
    pub(crate) fn scale_of(n: usize) -> f32 {
        1.0 / (n as f32).sqrt()
    }
}

/// How many layers a file says there are, as [`Config::layers`] are made after it.
fn layers_of(n_layers: usize) -> Result<usize, String> {
    in_range("the number of layers", n_layers, LIMITS.n_layers)?;
    Ok(n_layers)
}

fn in_range(what: &str, value: usize, limit: usize) -> Result<(), String> {
    let is_fine = (1..=limit).contains(&value);
    is_fine
        .then_some(())
        .ok_or_else(|| format!("{what} is {value}, expected 1 to {limit}"))
}

fn positive(what: &str, value: f32) -> Result<(), String> {
    let is_fine = value.is_finite() && value > 0.0;
    is_fine
        .then_some(())
        .ok_or_else(|| format!("{what} is {value}, expected more than 0"))
}

impl Rope {
    fn check(&self, head_dim: usize) -> Result<(), String> {
        let n_rotated = self.n_rotated;
        if !(2..=head_dim).contains(&n_rotated) || !n_rotated.is_multiple_of(2) {
            return Err(format!(
                "{n_rotated} rotated elements, expected an even number of a head's {head_dim}"
            ));
        }
        positive("the rotation's base", self.theta)?;
        positive("the rotation's scale", self.scale)?;
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => positive("the rotation's factor", factor)?,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                ..
            } => {
                positive("the rotation's factor", factor)?;
                let difference = high_freq_factor - low_freq_factor;
                positive("high_freq_factor - low_freq_factor", difference)?;
            }
            RopeScaling::Yarn {
                factor,
                beta_slow,
                beta_fast,
                original_context,
            } => {
                positive("the rotation's factor", factor)?;
                positive("beta_slow", beta_slow)?;
                positive("beta_fast - beta_slow", beta_fast - beta_slow)?;
                positive("the original context", original_context as f32)?;
            }
        }
        let mut factors = self.factors.iter().flatten();
        factors.try_for_each(|factor| positive("a rotation's divisor", *factor))
    }
}

/// Heads are whole vectors of the kernels.
const HEAD_MULTIPLE: usize = 16;

/// What YaRN multiplies rotated elements by, so that attention is as sharp as before.
fn yarn_scale(factor: f32) -> f32 {
    0.1 * factor.max(1.0).ln() + 1.0
}

/// What LongRoPE (Ding et al. 2024) multiplies rotated elements by, for `factor` times the original context.
fn long_rope_scale(factor: f32, original_context: f32) -> f32 {
    (1.0 + factor.max(1.0).ln() / original_context.ln()).sqrt()
}

/// The rotation of each pair of elements, in radians a position: `[n_rotated / 2]`.
///
/// Source: Su et al. 2021; Peng et al. 2023; for all scaling, `modeling_rope_utils.py` of Transformers.
pub(crate) fn rope_frequencies(rope: &Rope) -> Vec<f32> {
    let base = f64::from(rope.theta);
    let frequency = |pair_idx: usize| base.powf(-2.0 * pair_idx as f64 / rope.n_rotated as f64);
    let pairs = 0..rope.n_rotated / 2;
    if let Some(factors) = &rope.factors {
        let divided = pairs.zip(factors);
        let divided = divided.map(|(idx, factor)| (frequency(idx) / f64::from(*factor)) as f32);
        return divided.collect();
    }
    // How much of a frequency is kept: of a high one all, of a low one its share of the factor.
    let blended = |frequency: f64, factor: f32, kept: f64| {
        frequency * (kept + (1.0 - kept) / f64::from(factor))
    };
    let scaled = |idx: usize| match rope.scaling {
        RopeScaling::None => frequency(idx),
        RopeScaling::Linear { factor } => frequency(idx) / f64::from(factor),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => {
            let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
            let n_turns = original_context as f64 * frequency(idx) / TAU;
            let kept = ((n_turns - low) / (high - low)).clamp(0.0, 1.0);
            blended(frequency(idx), factor, kept)
        }
        RopeScaling::Yarn {
            factor,
            beta_slow,
            beta_fast,
            original_context,
        } => {
            // The index of the frequency that turns this often in the original context.
            let idx_of = |n_turns: f32| {
                let ratio = original_context as f64 / (f64::from(n_turns) * TAU);
                rope.n_rotated as f64 * ratio.ln() / (2.0 * base.ln())
            };
            let last = (rope.n_rotated - 1) as f64;
            let high = idx_of(beta_fast).floor().clamp(0.0, last);
            let low = idx_of(beta_slow).ceil().clamp(0.0, last);
            let width = if low > high { low - high } else { 0.001 };
            let kept = 1.0 - ((idx as f64 - high) / width).clamp(0.0, 1.0);
            blended(frequency(idx), factor, kept)
        }
    };
    pairs.map(|idx| scaled(idx) as f32).collect()
}
