//! A configuration from a Hugging Face folder's `config.json`.

use std::path::PathBuf;

use lmrun_kernels::RopeLayout;
use serde_json::Value;

use super::{Architecture, Config, Rope, RopeScaling};
use crate::ModelError;
use crate::folder::Folder;

const FILE: &str = "config.json";

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
    let default_head_dim = hidden.checked_div(n_heads).unwrap_or(0);
    let head_dim = keys.optional("head_dim")?.unwrap_or(default_head_dim);
    let has_attention_bias = keys.is_on("attention_bias");
    let config = Config {
        name: folder
            .file("")
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        architecture,
        n_layers: keys.uint("num_hidden_layers")?,
        n_heads,
        n_kv_heads: keys.optional("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim,
        hidden,
        ff: keys.uint("intermediate_size")?,
        n_vocab: keys.uint("vocab_size")?,
        context_length: context_length(&keys)?,
        norm_eps: keys.float(&keys.values, "rms_norm_eps")?.unwrap_or(1e-6),
        rope: rope(&keys)?,
        tied_head: keys.is_on("tie_word_embeddings") || !folder.has("lm_head.weight"),
        qkv_bias: has_attention_bias || architecture == Architecture::Qwen2,
        output_bias: has_attention_bias,
        qk_norm: architecture == Architecture::Qwen3,
    };
    config.check().map_err(|reason| keys.invalid(reason))?;
    Ok(config)
}

fn architecture(keys: &Keys) -> Result<Architecture, ModelError> {
    let name = keys.values["architectures"][0].as_str();
    match name.or(keys.values["model_type"].as_str()) {
        Some("LlamaForCausalLM" | "MistralForCausalLM" | "llama" | "mistral") => {
            Ok(Architecture::Llama)
        }
        Some("Qwen2ForCausalLM" | "qwen2") => Ok(Architecture::Qwen2),
        Some("Qwen3ForCausalLM" | "qwen3") => Ok(Architecture::Qwen3),
        Some(other) => {
            let known = "the causal models of Llama, Mistral, Qwen2 and Qwen3 are";
            Err(keys.unsupported(format!("architecture {other}; {known}")))
        }
        None => Err(keys.invalid("architectures is missing")),
    }
}

/// Refuses what shares an architecture's name but not its equations.
fn refuse_variants(keys: &Keys) -> Result<(), ModelError> {
    let activation = keys.values["hidden_act"].as_str().unwrap_or("silu");
    if activation != "silu" {
        return Err(keys.unsupported(format!("activation {activation}; silu is")));
    }
    if keys.is_on("mlp_bias") {
        return Err(keys.unsupported("biases in the feed-forward layer"));
    }
    if !keys.values["quantization_config"].is_null() {
        return Err(keys.unsupported("quantised safetensors; GGUF files may be quantised"));
    }
    let share = keys
        .float(&keys.values, "partial_rotary_factor")?
        .unwrap_or(1.0);
    if share != 1.0 {
        return Err(keys.unsupported(format!("rotation of {share} of a head")));
    }
    Ok(())
}

/// Within its window, sliding-window attention is full attention: the window is the limit.
fn context_length(keys: &Keys) -> Result<usize, ModelError> {
    let trained = keys.uint("max_position_embeddings")?;
    let is_off = keys.values["use_sliding_window"] == Value::Bool(false);
    let window = if is_off {
        None
    } else {
        keys.optional("sliding_window")?
    };
    Ok(window.map_or(trained, |window| window.min(trained)))
}

fn rope(keys: &Keys) -> Result<Rope, ModelError> {
    // Transformers 5 moved everything about rotation into one object.
    let (values, parameters) = (&keys.values, &keys.values["rope_parameters"]);
    let scaling = if parameters.is_null() {
        &values["rope_scaling"]
    } else {
        parameters
    };
    let theta = keys
        .float(parameters, "rope_theta")?
        .or(keys.float(values, "rope_theta")?);
    let kind = scaling["rope_type"]
        .as_str()
        .or(scaling["type"].as_str())
        .unwrap_or("default");
    let float = |name: &str| -> Result<f32, ModelError> {
        let value = keys.float(scaling, name)?;
        value.ok_or_else(|| keys.invalid(format!("rope scaling {kind} without {name}")))
    };
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: float("factor")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: float("factor")?,
            low_freq_factor: float("low_freq_factor")?,
            high_freq_factor: float("high_freq_factor")?,
            original_context: float("original_max_position_embeddings")? as usize,
        },
        _ => return Err(keys.unsupported(format!("rope scaling {kind}"))),
    };
    let (theta, layout) = (theta.unwrap_or(10_000.0), RopeLayout::Halves);
    Ok(Rope {
        theta,
        layout,
        scaling,
        factors: None,
    })
}
