//! A configuration from a Hugging Face folder's `config.json`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    Activation, Architecture, Config, LayerConfig, Rope, RopeLayout, RopeScaling, layers_of,
    long_rope_scale, yarn_scale,
};
use crate::ModelError;
use crate::folder::Folder;

const FILE: &str = "config.json";
/// The key of the context that a rotation was trained on before it was scaled.
const ORIGINAL: &str = "original_max_position_embeddings";

/// The file's values.
struct Keys {
    path: PathBuf,
    values: Value,
}

impl Keys {
    fn invalid(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Invalid {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn unsupported(&self, what: impl Into<String>) -> ModelError {
        ModelError::Unsupported {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// A whole number; `None` if it is absent or null.
    fn optional(&self, name: &str) -> Result<Option<usize>, ModelError> {
        match &self.values[name] {
            Value::Null => Ok(None),
            value => match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.invalid(format!("{name} is {value}, expected a whole number"))),
            },
        }
    }

    fn uint(&self, name: &str) -> Result<usize, ModelError> {
        self.optional(name)?
            .ok_or_else(|| self.invalid(format!("{name} is missing")))
    }

    fn float(&self, values: &Value, name: &str) -> Result<Option<f32>, ModelError> {
        match &values[name] {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(value) => Ok(Some(value as f32)),
                None => Err(self.invalid(format!("{name} is {value}, expected a number"))),
            },
        }
    }

    fn is_on(&self, name: &str) -> bool {
        self.values[name] == Value::Bool(true)
    }
}

/// Reads and checks the configuration of a folder.
pub(crate) fn read(folder: &Folder) -> Result<Config, ModelError> {
    let path = folder.file(FILE);
    let values = folder.json(FILE)?.ok_or_else(|| ModelError::Invalid {
        path: path.clone(),
        reason: "the file is missing".into(),
    })?;
    let keys = Keys { path, values };
    let architecture = architecture(&keys)?;
    refuse_variants(&keys)?;
    let (hidden, n_heads) = (keys.uint("hidden_size")?, keys.uint("num_attention_heads")?);
    let default_head_dim = match architecture {
        Architecture::Gemma | Architecture::Gemma2 | Architecture::Gemma3 => 256,
        _ => hidden.checked_div(n_heads).unwrap_or(0),
    };
    let head_dim = keys.optional("head_dim")?.unwrap_or(default_head_dim);
    let has_attention_bias = keys.is_on("attention_bias");
    let float = |name: &str| keys.float(&keys.values, name);
    let scaled_for = float("query_pre_attn_scalar")?.unwrap_or(head_dim as f32);
    let (ropes, original_context) = ropes(&keys, architecture, head_dim)?;
    let config = Config {
        name: name(folder),
        architecture,
        layers: layers(&keys, architecture)?,
        n_heads,
        n_kv_heads: keys.optional("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim,
        hidden,
        ff: keys.uint("intermediate_size")?,
        n_vocab: keys.uint("vocab_size")?,
        context_length: original_context.unwrap_or(keys.uint("max_position_embeddings")?),
        norm_eps: float("rms_norm_eps")?.unwrap_or(1e-6),
        ropes,
        attention_scale: 1.0 / scaled_for.sqrt(),
        score_softcap: float("attn_logit_softcapping")?,
        logit_softcap: float("final_logit_softcapping")?,
        embedding_scale: architecture.embedding_scale(hidden),
        activation: activation(&keys, architecture)?,
        norm_offset: if architecture.is_gemma() { 1.0 } else { 0.0 },
        post_norms: architecture.has_post_norms(),
        is_fused: architecture == Architecture::Phi3,
        tied_head: keys.is_on("tie_word_embeddings") || !folder.has("lm_head.weight"),
        qkv_bias: has_attention_bias || architecture == Architecture::Qwen2,
        output_bias: has_attention_bias,
        qk_norm: architecture.has_head_norms(),
    };
    config.check().map_err(|reason| keys.invalid(reason))?;
    Ok(config)
}

/// The folder's own name.
fn name(folder: &Folder) -> String {
    let path = folder.file("");
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn architecture(keys: &Keys) -> Result<Architecture, ModelError> {
    let name = keys.values["architectures"][0].as_str();
    Ok(match name.or(keys.values["model_type"].as_str()) {
        Some("LlamaForCausalLM" | "MistralForCausalLM" | "llama" | "mistral") => {
            Architecture::Llama
        }
        Some("Qwen2ForCausalLM" | "qwen2") => Architecture::Qwen2,
        Some("Qwen3ForCausalLM" | "qwen3") => Architecture::Qwen3,
        Some("SmolLM3ForCausalLM" | "smollm3") => Architecture::SmolLm3,
        Some("Phi3ForCausalLM" | "phi3") => Architecture::Phi3,
        Some("GemmaForCausalLM" | "gemma") => Architecture::Gemma,
        Some("Gemma2ForCausalLM" | "gemma2") => Architecture::Gemma2,
        Some("Gemma3ForCausalLM" | "gemma3_text") => Architecture::Gemma3,
        Some(other) => {
            let known = "the causal models of Llama, Mistral, Qwen2, Qwen3, SmolLM3, Phi3, Gemma, Gemma2 and Gemma3 are";
            return Err(keys.unsupported(format!("architecture {other}; {known}")));
        }
        None => return Err(keys.invalid("architectures is missing")),
    })
}

/// Refuses what shares an architecture's name but not its equations.
fn refuse_variants(keys: &Keys) -> Result<(), ModelError> {
    if keys.is_on("mlp_bias") {
        return Err(keys.unsupported("biases in the feed-forward layer"));
    }
    if keys.is_on("use_bidirectional_attention") {
        return Err(keys.unsupported("attention to later positions"));
    }
    if !keys.values["quantization_config"].is_null() {
        return Err(keys.unsupported("quantised safetensors; GGUF files may be quantised"));
    }
    Ok(())
}

fn activation(keys: &Keys, architecture: Architecture) -> Result<Activation, ModelError> {
    let named = |name: &str| keys.values[name].as_str();
    let name = named("hidden_activation").or(named("hidden_act"));
    Ok(match (name, architecture) {
        (Some("silu" | "swish"), _) => Activation::Silu,
        (Some("gelu_pytorch_tanh"), _) => Activation::GeluTanh,
        // The first Gemma's files name another GELU than it was trained with.
        (Some("gelu"), Architecture::Gemma) => Activation::GeluTanh,
        (None, _) if architecture.is_gemma() => Activation::GeluTanh,
        (None, _) => Activation::Silu,
        (Some(name), _) => {
            let known = "silu and gelu_pytorch_tanh are";
            return Err(keys.unsupported(format!("activation {name}; {known}")));
        }
    })
}

/// Each layer's window and rotation, as `layer_types` says or, in older files, as the family has them.
fn layers(keys: &Keys, architecture: Architecture) -> Result<Vec<LayerConfig>, ModelError> {
    use Architecture as A;
    let n_layers = layers_of(keys.uint("num_hidden_layers")?);
    let n_layers = n_layers.map_err(|reason| keys.invalid(reason))?;
    let is_off = keys.values["use_sliding_window"] == Value::Bool(false);
    let window = keys.optional("sliding_window")?.filter(|_| !is_off);
    let window = match architecture {
        A::Llama | A::Phi3 | A::Gemma2 | A::Gemma3 => window,
        // Their windows are off unless they are switched on.
        _ => window.filter(|_| keys.is_on("use_sliding_window")),
    };
    let pattern = keys.optional("sliding_window_pattern")?.unwrap_or(6).max(1);
    let first_windowed = keys.optional("max_window_layers")?.unwrap_or(0);
    let by_family = |idx: usize| match architecture {
        A::Gemma2 => idx.is_multiple_of(2),
        A::Gemma3 => !(idx + 1).is_multiple_of(pattern),
        A::Qwen2 | A::Qwen3 | A::SmolLm3 => idx >= first_windowed,
        A::Llama | A::Phi3 | A::Gemma => true,
    };
    let rotates = rotating_layers(keys, architecture, n_layers)?;
    let types = keys.values["layer_types"].as_array();
    let layer = |idx: usize| {
        let is_windowed = match types.map(|types| types.get(idx).and_then(Value::as_str)) {
            None => by_family(idx),
            Some(Some("sliding_attention")) => true,
            Some(Some("full_attention")) => false,
            Some(Some(other)) => return Err(keys.unsupported(format!("layers of {other}"))),
            Some(None) => return Err(keys.invalid(format!("layer_types says nothing of {idx}"))),
        };
        let rope = usize::from(architecture == A::Gemma3 && is_windowed);
        Ok(LayerConfig {
            window: window.filter(|_| is_windowed),
            rope: rotates[idx].then_some(rope),
        })
    };
    (0..n_layers).map(layer).collect()
}

/// Whether each layer rotates queries and keys.
fn rotating_layers(
    keys: &Keys,
    architecture: Architecture,
    n_layers: usize,
) -> Result<Vec<bool>, ModelError> {
    if architecture != Architecture::SmolLm3 {
        return Ok(vec![true; n_layers]);
    }
    // Contrary to its name, the list says 1 of the layers that rotate.
    if let Some(listed) = keys.values["no_rope_layers"].as_array() {
        let rotates: Vec<bool> = listed.iter().map(|value| *value != json!(0)).collect();
        return if rotates.len() == n_layers {
            Ok(rotates)
        } else {
            let n_listed = rotates.len();
            Err(keys.invalid(format!(
                "no_rope_layers has {n_listed} entries, there are {n_layers} layers"
            )))
        };
    }
    let interval = keys.optional("no_rope_layer_interval")?.unwrap_or(4).max(1);
    Ok((1..=n_layers)
        .map(|n| !n.is_multiple_of(interval))
        .collect())
}

/// The rotations, and the context that their scaling bounds, if it does.
fn ropes(
    keys: &Keys,
    architecture: Architecture,
    head_dim: usize,
) -> Result<(Vec<Rope>, Option<usize>), ModelError> {
    // Transformers 5 moved everything about rotation into one object.
    let (values, parameters) = (&keys.values, &keys.values["rope_parameters"]);
    if architecture != Architecture::Gemma3 {
        let scaling = if parameters.is_null() {
            &values["rope_scaling"]
        } else {
            parameters
        };
        let (rope, bound) = rope(keys, scaling, 10_000.0, head_dim)?;
        return Ok((vec![rope], bound));
    }
    // Layers with a window have a base of their own and no scaling.
    let (full, windowed) = if parameters["full_attention"].is_null() {
        let base = keys.float(values, "rope_local_base_freq")?;
        (values["rope_scaling"].clone(), json!({"rope_theta": base}))
    } else {
        let windowed = parameters["sliding_attention"].clone();
        (parameters["full_attention"].clone(), windowed)
    };
    let (full, bound) = rope(keys, &full, 1_000_000.0, head_dim)?;
    let theta = keys.float(&windowed, "rope_theta")?.unwrap_or(10_000.0);
    let windowed = json!({"rope_theta": theta, "rope_type": windowed["rope_type"]});
    let (windowed, _) = rope(keys, &windowed, theta, head_dim)?;
    Ok((vec![full, windowed], bound))
}

fn rope(
    keys: &Keys,
    scaling: &Value,
    default_theta: f32,
    head_dim: usize,
) -> Result<(Rope, Option<usize>), ModelError> {
    let setting = |name: &str| -> Result<Option<f32>, ModelError> {
        let own = keys.float(scaling, name)?;
        Ok(own.or(keys.float(&keys.values, name)?))
    };
    let share = setting("partial_rotary_factor")?.unwrap_or(1.0);
    let mut rope = Rope {
        theta: setting("rope_theta")?.unwrap_or(default_theta),
        layout: RopeLayout::Halves,
        n_rotated: (head_dim as f32 * share) as usize,
        scaling: RopeScaling::None,
        factors: None,
        scale: 1.0,
    };
    let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str());
    let original = setting(ORIGINAL)?;
    let bound = scale(
        keys,
        scaling,
        kind.unwrap_or("default"),
        original,
        &mut rope,
    )?;
    Ok((rope, bound))
}

/// Sets a rotation's scaling, of the kind that the file names; gives the context that bounds it, if any does.
fn scale(
    keys: &Keys,
    scaling: &Value,
    kind: &str,
    original: Option<f32>,
    rope: &mut Rope,
) -> Result<Option<usize>, ModelError> {
    let optional = |name: &str| keys.float(scaling, name);
    let missing = |name: &str| keys.invalid(format!("rope scaling {kind} without {name}"));
    let needed = |name: &str| optional(name)?.ok_or_else(|| missing(name));
    let original = || original.ok_or_else(|| missing(ORIGINAL));
    let trained = keys.uint("max_position_embeddings")? as f32;
    match kind {
        "default" => {}
        "linear" => {
            let factor = needed("factor")?;
            rope.scaling = RopeScaling::Linear { factor };
        }
        "llama3" => {
            rope.scaling = RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_context: original()? as usize,
            }
        }
        "yarn" => {
            if scaling["truncate"] == Value::Bool(false) || !scaling["mscale"].is_null() {
                return Err(keys.unsupported("rope scaling yarn with truncate or mscale"));
            }
            let factor = needed("factor")?;
            rope.scale = optional("attention_factor")?.unwrap_or_else(|| yarn_scale(factor));
            rope.scaling = RopeScaling::Yarn {
                factor,
                beta_slow: optional("beta_slow")?.unwrap_or(1.0),
                beta_fast: optional("beta_fast")?.unwrap_or(32.0),
                original_context: original().unwrap_or(trained) as usize,
            };
        }
        // Phi 3's first files call it su.
        "longrope" | "su" => {
            let original = original()?;
            let factor = optional("factor")?.unwrap_or(trained / original);
            let scale = optional("attention_factor")?;
            rope.scale = scale.unwrap_or_else(|| long_rope_scale(factor, original));
            rope.factors = Some(short_factors(keys, scaling, rope.n_rotated)?);
            return Ok(Some(original.min(trained) as usize));
        }
        _ => return Err(keys.unsupported(format!("rope scaling {kind}"))),
    }
    Ok(None)
}

/// LongRoPE's divisors of frequencies for contexts that are no longer than the original one.
fn short_factors(keys: &Keys, scaling: &Value, n_rotated: usize) -> Result<Vec<f32>, ModelError> {
    let factors = scaling["short_factor"].as_array();
    let factors: Option<Vec<f32>> = factors.and_then(|factors| {
        let factors = factors.iter().map(|factor| Some(factor.as_f64()? as f32));
        factors.collect()
    });
    factors
        .filter(|factors| factors.len() == n_rotated / 2)
        .ok_or_else(|| keys.invalid(format!("short_factor is not {} numbers", n_rotated / 2)))
}
