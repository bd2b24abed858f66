//! The Hugging Face container: a folder of JSON files and safetensors shards.
//!
//! Source: the safetensors format description; Transformers' `modeling_utils.py` for the shard index.
//! Shards are mapped; their headers are checked by the `safetensors` crate before anything is read.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::ModelError;
use crate::gguf::map_file;
use crate::weights::{LayerWeight, RawTensor, Source, Weight};

/// The most bytes of a JSON file: some ten times the largest tokenizer in use.
const MAX_JSON: u64 = 256 << 20;
/// The most shards of a checkpoint.
const MAX_SHARDS: usize = 1 << 12;

/// An opened folder.
pub(crate) struct Folder {
    path: PathBuf,
    shards: Vec<Mmap>,
    tensors: HashMap<String, Entry>,
    /// Whether the feed-forward layer has a norm before it and one after.
    has_post_norms: bool,
}

/// Where a tensor lies.
struct Entry {
    shard_idx: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes of the shard.
    range: std::ops::Range<usize>,
}

impl Folder {
    /// Maps the shards of a folder and reads their headers.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let mut folder = Self {
            path: path.to_owned(),
            shards: Vec::new(),
            tensors: HashMap::new(),
            has_post_norms: false,
        };
        let index = folder.json("model.safetensors.index.json")?;
        let names = match index {
            None => BTreeSet::from(["model.safetensors".to_owned()]),
            Some(index) => shard_names(&index)
                .map_err(|reason| invalid(&path.join("model.safetensors.index.json"), reason))?,
        };
        for name in names {
            folder.add_shard(&path.join(name))?;
        }
        folder.has_post_norms = folder.has("model.layers.0.pre_feedforward_layernorm.weight");
        Ok(folder)
    }

    fn add_shard(&mut self, path: &Path) -> Result<(), ModelError> {
        let io = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let map = map_file(&File::open(path).map_err(io)?).map_err(io)?;
        let (header_len, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| invalid(path, error.to_string()))?;
        // Eight bytes say how long the header is.
        let data_start = header_len + 8;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let range = data_start + start..data_start + end;
            let (dtype, shape) = (info.dtype, info.shape.clone());
            if range.end > map.len() {
                let reason = format!("tensor {name} ends at byte {}, of {}", range.end, map.len());
                return Err(invalid(path, reason));
            }
            let entry = Entry {
                shard_idx: self.shards.len(),
                dtype,
                shape,
                range,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(invalid(path, format!("tensor {name} is in two shards")));
            }
        }
        self.shards.push(map);
        Ok(())
    }

    /// A JSON file of the folder, if it is there.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>, ModelError> {
        let Some(text) = read_bounded(&self.path.join(name))? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&text);
        value
            .map(Some)
            .map_err(|error| invalid(&self.path.join(name), error.to_string()))
    }

    /// A text file of the folder, if it is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ModelError> {
        let Some(bytes) = read_bounded(&self.path.join(name))? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| invalid(&self.path.join(name), "not UTF-8".into()))
    }

    /// The path of a file of the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

fn invalid(path: &Path, reason: String) -> ModelError {
    ModelError::Invalid {
        path: path.to_owned(),
        reason,
    }
}

fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    let io = |source| ModelError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
        Ok(metadata) if metadata.len() > MAX_JSON => Err(invalid(
            path,
            format!("{} bytes, at most {MAX_JSON}", metadata.len()),
        )),
        Ok(_) => std::fs::read(path).map(Some).map_err(io),
    }
}

/// The shards that an index names; each must be a plain file name.
fn shard_names(index: &Value) -> Result<BTreeSet<String>, String> {
    let map = index["weight_map"]
        .as_object()
        .ok_or("weight_map is missing")?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name
            .as_str()
            .ok_or("weight_map has an entry that is no name")?;
        let is_plain = Path::new(name).file_name().is_some_and(|file| file == name);
        if !is_plain {
            return Err(format!("shard {name} is not a file of the folder"));
        }
        names.insert(name.to_owned());
    }
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(format!(
            "{} shards, expected 1 to {MAX_SHARDS}",
            names.len()
        ));
    }
    Ok(names)
}

impl Source for Folder {
    fn name(&self, weight: Weight) -> String {
        use LayerWeight as L;
        let (layer_idx, weight) = match weight {
            Weight::Embedding => return "model.embed_tokens.weight".into(),
            Weight::FinalNorm => return "model.norm.weight".into(),
            Weight::Head => return "lm_head.weight".into(),
            Weight::Layer(layer_idx, weight) => (layer_idx, weight),
        };
        let name = match weight {
            L::AttentionNorm => "input_layernorm.weight",
            L::Query => "self_attn.q_proj.weight",
            L::Key => "self_attn.k_proj.weight",
            L::Value => "self_attn.v_proj.weight",
            L::QueryKeyValue => "self_attn.qkv_proj.weight",
            L::QueryBias => "self_attn.q_proj.bias",
            L::KeyBias => "self_attn.k_proj.bias",
            L::ValueBias => "self_attn.v_proj.bias",
            L::QueryNorm => "self_attn.q_norm.weight",
            L::KeyNorm => "self_attn.k_norm.weight",
            L::Output => "self_attn.o_proj.weight",
            L::OutputBias => "self_attn.o_proj.bias",
            // A norm after attention is before the feed-forward layer, unless that one has its own.
            L::FfNorm if self.has_post_norms => "pre_feedforward_layernorm.weight",
            L::FfNorm | L::PostAttentionNorm => "post_attention_layernorm.weight",
            L::PostFfNorm => "post_feedforward_layernorm.weight",
            L::Gate => "mlp.gate_proj.weight",
            L::Up => "mlp.up_proj.weight",
            L::GateUp => "mlp.gate_up_proj.weight",
            L::Down => "mlp.down_proj.weight",
        };
        format!("model.layers.{layer_idx}.{name}")
    }

    fn tensor(&self, name: &str) -> Result<Option<RawTensor<'_>>, ModelError> {
        let Some(entry) = self.tensors.get(name) else {
            return Ok(None);
        };
        let dtype = match entry.dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            other => {
                let what = format!("tensor {name} of type {other:?}; F32, F16 and BF16 are");
                return Err(self.unsupported(what));
            }
        };
        let bytes = Cow::Borrowed(&self.shards[entry.shard_idx][entry.range.clone()]);
        Ok(Some(RawTensor {
            shape: entry.shape.clone(),
            dtype,
            bytes,
        }))
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn invalid(&self, reason: String) -> ModelError {
        invalid(&self.path, reason)
    }

    fn unsupported(&self, what: String) -> ModelError {
        ModelError::Unsupported {
            path: self.path.clone(),
            what,
        }
    }
}
