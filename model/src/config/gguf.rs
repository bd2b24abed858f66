//! A configuration from a GGUF file's metadata.

use std::path::Path;

use candle_core::quantized::GgmlDType;

use super::{
    Activation, Architecture, Config, LayerConfig, Rope, RopeLayout, RopeScaling, layers_of,
    long_rope_scale, yarn_scale,
};
use crate::ModelError;
use crate::gguf::Gguf;

/// Metadata under one architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: Architecture,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name())
    }

    fn optional(&self, name: &str) -> Result<Option<usize>, ModelError> {
        let value = self
            .gguf
            .uint(&self.key(name))
            .map_err(|reason| self.gguf.invalid(reason))?;
        Ok(value.map(|value| usize::try_from(value).unwrap_or(usize::MAX)))
    }

    fn uint(&self, name: &str) -> Result<usize, ModelError> {
        let missing = || self.gguf.invalid(format!("{} is missing", self.key(name)));
        self.optional(name)?.ok_or_else(missing)
    }

    fn float(&self, name: &str) -> Result<Option<f32>, ModelError> {
        self.gguf
            .float(&self.key(name))
            .map_err(|reason| self.gguf.invalid(reason))
    }

    /// A cap, which Gemma 2 has where its file says nothing.
    fn cap(&self, name: &str, default: f32) -> Result<Option<f32>, ModelError> {
        let default = Some(default).filter(|_| self.architecture == Architecture::Gemma2);
        Ok(self.float(name)?.or(default))
    }

    /// A divisor for each pair of rotated elements, if the file holds them.
    fn factors(&self, name: &str, n_rotated: usize) -> Result<Option<Vec<f32>>, ModelError> {
        let Some((info, bytes)) = self.gguf.tensor(name) else {
            return Ok(None);
        };
        if info.shape != [n_rotated / 2] || info.dtype != GgmlDType::F32 {
            let reason = format!("{name} is not {} numbers of F32", n_rotated / 2);
            return Err(self.gguf.invalid(reason));
        }
        let (values, _) = bytes.as_chunks();
        Ok(Some(
            values.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        ))
    }
}

/// Reads and checks the configuration of a GGUF file.
pub(crate) fn read(gguf: &Gguf, path: &Path) -> Result<Config, ModelError> {
    let invalid = |reason: String| gguf.invalid(reason);
    let architecture = architecture(gguf)?;
    let keys = Keys { gguf, architecture };
    refuse_variants(&keys)?;
    let hidden = keys.uint("embedding_length")?;
    let n_heads = keys.uint("attention.head_count")?;
    let head_dim = match keys.optional("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden.checked_div(n_heads).unwrap_or(0),
    };
    let embedding = gguf.tensor("token_embd.weight");
    let (embedding, _) =
        embedding.ok_or_else(|| gguf.invalid("tensor token_embd.weight is missing"))?;
    let has = |name: &str| gguf.tensor(name).is_some();
    let model_name = gguf.string("general.name").map_err(invalid)?;
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy();
    let layers = layers(&keys)?;
    let (ropes, original_context) = ropes(&keys, head_dim)?;
    let config = Config {
        name: model_name.map_or_else(|| stem().into_owned(), str::to_owned),
        architecture,
        n_heads,
        n_kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(n_heads),
        head_dim,
        hidden,
        ff: keys.uint("feed_forward_length")?,
        n_vocab: embedding.shape[0],
        context_length: original_context.unwrap_or(keys.uint("context_length")?),
        norm_eps: keys
            .float("attention.layer_norm_rms_epsilon")?
            .unwrap_or(1e-5),
        ropes,
        attention_scale: attention_scale(
            architecture,
            layers.len(),
            hidden / n_heads.max(1),
            head_dim,
        ),
        score_softcap: keys.cap("attn_logit_softcapping", 50.0)?,
        logit_softcap: keys.cap("final_logit_softcapping", 30.0)?,
        embedding_scale: architecture.embedding_scale(hidden),
        activation: if architecture.is_gemma() {
            Activation::GeluTanh
        } else {
            Activation::Silu
        },
        // Converters add what the checkpoint's own norms lack.
        norm_offset: 0.0,
        post_norms: architecture.has_post_norms(),
        is_fused: architecture == Architecture::Phi3,
        tied_head: !has("output.weight"),
        qkv_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        qk_norm: architecture.has_head_norms(),
        layers,
    };
    config.check().map_err(|reason| gguf.invalid(reason))?;
    Ok(config)
}

/// The largest Gemma 2 and 3 alone scale scores by what a head would be if all were as long as the stream.
fn attention_scale(
    architecture: Architecture,
    n_layers: usize,
    share: usize,
    head_dim: usize,
) -> f32 {
    match (architecture, n_layers) {
        (Architecture::Gemma2, 46) | (Architecture::Gemma3, 62) => Config::scale_of(share),
        _ => Config::scale_of(head_dim),
    }
}

fn architecture(gguf: &Gguf) -> Result<Architecture, ModelError> {
    let name = gguf.string("general.architecture");
    let name = name.map_err(|reason| gguf.invalid(reason))?;
    let name = name.ok_or_else(|| gguf.invalid("general.architecture is missing"))?;
    let mut all = Architecture::ALL.into_iter();
    all.find(|known| known.name() == name).ok_or_else(|| {
        let known = Architecture::ALL.map(Architecture::name).join(", ");
        gguf.unsupported(format!("architecture {name}; these are: {known}"))
    })
}

/// Refuses what shares an architecture's name but not its equations.
fn refuse_variants(keys: &Keys<'_>) -> Result<(), ModelError> {
    if keys
        .optional("expert_count")?
        .is_some_and(|n_experts| n_experts > 0)
    {
        return Err(keys.gguf.unsupported("a mixture of experts"));
    }
    let head_dim = keys.optional("attention.key_length")?;
    if head_dim != keys.optional("attention.value_length")?.or(head_dim) {
        return Err(keys.gguf.unsupported("values of another length than keys"));
    }
    Ok(())
}

/// Each layer's window and rotation: the file says how long a window is, its family which layers have one.
fn layers(keys: &Keys<'_>) -> Result<Vec<LayerConfig>, ModelError> {
    use Architecture as A;
    let n_layers = layers_of(keys.uint("block_count")?);
    let n_layers = n_layers.map_err(|reason| keys.gguf.invalid(reason))?;
    // A window of no positions stands for none.
    let window = keys.optional("attention.sliding_window")?;
    let window = window.filter(|window| *window > 0);
    let window = match (keys.architecture, window) {
        (A::Qwen2 | A::Qwen3 | A::SmolLm3 | A::Gemma, Some(_)) => {
            let what = format!("a window over {}'s attention", keys.architecture.name());
            return Err(keys.gguf.unsupported(what));
        }
        (A::Gemma2, None) => Some(4096),
        (A::Gemma3, None) => {
            return Err(keys
                .gguf
                .invalid("gemma3.attention.sliding_window is missing"));
        }
        (_, window) => window,
    };
    let layer = |n: usize| {
        let is_windowed = match keys.architecture {
            A::Gemma2 => !n.is_multiple_of(2),
            A::Gemma3 => !n.is_multiple_of(6),
            _ => true,
        };
        let rotates = keys.architecture != A::SmolLm3 || !n.is_multiple_of(4);
        let rope = usize::from(keys.architecture == A::Gemma3 && is_windowed);
        LayerConfig {
            window: window.filter(|_| is_windowed),
            rope: rotates.then_some(rope),
        }
    };
    Ok((1..=n_layers).map(layer).collect())
}

/// The rotations, and the context that their scaling bounds, if it does.
fn ropes(keys: &Keys<'_>, head_dim: usize) -> Result<(Vec<Rope>, Option<usize>), ModelError> {
    let n_rotated = keys.optional("rope.dimension_count")?.unwrap_or(head_dim);
    let plain = Rope {
        theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
        layout: match keys.architecture {
            Architecture::Llama | Architecture::SmolLm3 => RopeLayout::Interleaved,
            _ => RopeLayout::Halves,
        },
        n_rotated,
        scaling: RopeScaling::None,
        factors: None,
        scale: 1.0,
    };
    let (rope, bound) = scaled(keys, plain.clone())?;
    let mut ropes = vec![rope];
    if keys.architecture == Architecture::Gemma3 {
        let theta = keys.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
        ropes.push(Rope { theta, ..plain });
    }
    Ok((ropes, bound))
}

fn scaled(keys: &Keys<'_>, mut rope: Rope) -> Result<(Rope, Option<usize>), ModelError> {
    let gguf = keys.gguf;
    let original = keys.optional("rope.scaling.original_context_length")?;
    if let Some(factors) = keys.factors("rope_factors_short.weight", rope.n_rotated)? {
        let missing = || gguf.invalid("the original context of its rotation factors is missing");
        let (original, trained) = (original.ok_or_else(missing)?, keys.uint("context_length")?);
        rope.factors = Some(factors);
        let scale = keys.float("rope.scaling.attn_factor")?;
        let factor = trained as f32 / original as f32;
        rope.scale = scale.unwrap_or_else(|| long_rope_scale(factor, original as f32));
        return Ok((rope, Some(original.min(trained))));
    }
    rope.factors = keys.factors("rope_freqs.weight", rope.n_rotated)?;
    let kind = gguf.string(&keys.key("rope.scaling.type"));
    let kind = kind.map_err(|reason| gguf.invalid(reason))?;
    let factor = keys
        .float("rope.scaling.factor")?
        .or(keys.float("rope.scale_linear")?);
    rope.scaling = match (kind, factor) {
        (Some("none"), _) | (None, None) => RopeScaling::None,
        (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
        (Some("yarn"), Some(factor)) => {
            let scale = keys.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
            rope.scale = scale * yarn_scale(factor);
            RopeScaling::Yarn {
                factor,
                beta_slow: keys.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                beta_fast: keys.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                original_context: original.unwrap_or(keys.uint("context_length")?),
            }
        }
        (Some("linear" | "yarn"), None) => {
            return Err(gguf.invalid("rope.scaling.factor is missing"));
        }
        (Some(kind), _) => return Err(gguf.unsupported(format!("rope scaling {kind}"))),
    };
    Ok((rope, None))
}
