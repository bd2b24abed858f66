//! A configuration from a GGUF file's metadata.

use std::path::Path;

use super::{Architecture, Config, Rope, RopeScaling};
use crate::ModelError;
use crate::gguf::Gguf;
use lmrun_kernels::RopeLayout;

/// Metadata under one architecture's prefix.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
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
}

/// Reads and checks the configuration of a GGUF file.
pub(crate) fn read(gguf: &Gguf, path: &Path) -> Result<Config, ModelError> {
    let invalid = |reason: String| gguf.invalid(reason);
    let name = gguf.string("general.architecture").map_err(invalid)?;
    let name = name.ok_or_else(|| gguf.invalid("general.architecture is missing"))?;
    let architecture = match name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        _ => {
            let what = format!("architecture {name}; llama, qwen2 and qwen3 are");
            return Err(gguf.unsupported(what));
        }
    };
    let keys = Keys {
        gguf,
        architecture: name,
    };
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
    let stem = || {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let config = Config {
        name: model_name.map_or_else(stem, str::to_owned),
        architecture,
        n_layers: keys.uint("block_count")?,
        n_heads,
        n_kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(n_heads),
        head_dim,
        hidden,
        ff: keys.uint("feed_forward_length")?,
        n_vocab: embedding.shape[0],
        context_length: keys.uint("context_length")?,
        norm_eps: keys
            .float("attention.layer_norm_rms_epsilon")?
            .unwrap_or(1e-5),
        rope: rope(&keys, architecture, head_dim)?,
        tied_head: !has("output.weight"),
        qkv_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        qk_norm: architecture == Architecture::Qwen3,
    };
    config.check().map_err(|reason| gguf.invalid(reason))?;
    Ok(config)
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
    if keys
        .optional("attention.sliding_window")?
        .is_some_and(|window| window > 0)
    {
        return Err(keys.gguf.unsupported("sliding-window attention"));
    }
    Ok(())
}

fn rope(keys: &Keys<'_>, architecture: Architecture, head_dim: usize) -> Result<Rope, ModelError> {
    let gguf = keys.gguf;
    if let Some(n_rotated) = keys.optional("rope.dimension_count")?
        && n_rotated != head_dim
    {
        let what = format!("rotation of {n_rotated} of a head's {head_dim} elements");
        return Err(gguf.unsupported(what));
    }
    let kind = gguf
        .string(&keys.key("rope.scaling.type"))
        .map_err(|e| gguf.invalid(e))?;
    let factor = keys
        .float("rope.scaling.factor")?
        .or(keys.float("rope.scale_linear")?);
    let scaling = match (kind, factor) {
        (Some("none"), _) | (None, None) => RopeScaling::None,
        (Some("linear") | None, Some(factor)) => RopeScaling::Linear { factor },
        (Some("linear"), None) => return Err(gguf.invalid("rope.scaling.factor is missing")),
        (Some(kind), _) => return Err(gguf.unsupported(format!("rope scaling {kind}"))),
    };
    let factors = gguf.tensor("rope_freqs.weight").map(|(info, bytes)| {
        let is_right =
            info.shape == [head_dim / 2] && info.dtype == candle_core::quantized::GgmlDType::F32;
        let values = bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        is_right
            .then(|| values.collect::<Vec<f32>>())
            .ok_or_else(|| gguf.invalid("rope_freqs.weight is not half a head of F32"))
    });
    Ok(Rope {
        theta: keys.float("rope.freq_base")?.unwrap_or(10_000.0),
        layout: match architecture {
            Architecture::Llama => RopeLayout::Interleaved,
            Architecture::Qwen2 | Architecture::Qwen3 => RopeLayout::Halves,
        },
        scaling,
        factors: factors.transpose()?,
    })
}
