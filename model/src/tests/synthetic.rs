//! Small made-up checkpoints, written as GGUF files and as Hugging Face folders.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use half::f16;
use serde_json::json;

use crate::tokenizer::byte_level::char_of_byte;

/// A folder that is removed when the test ends.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lmrun-model-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A random number in -1..1, by SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub(crate) fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A tensor: its shape, rows first, and plain values that f16 holds exactly.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// A model's shapes and weights, by Hugging Face's names.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) architecture: &'static str,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) hidden: usize,
    pub(super) ff: usize,
    pub(super) n_vocab: usize,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

pub(super) const THETA: f32 = 10_000.0;
pub(super) const EPS: f32 = 1e-5;
/// Tokens of the vocabulary below: three special ones, the bytes, two merges.
pub(super) const N_VOCAB: usize = 3 + 256 + 2;

impl Model {
    /// Random weights for `architecture`; `tied` leaves the head out.
    pub(super) fn new(architecture: &'static str, tied: bool) -> Self {
        Self::sized(architecture, tied, (32, 64, 4))
    }

    /// As [`Model::new`], of so many hidden and feed-forward elements and heads.
    pub(super) fn sized(
        architecture: &'static str,
        tied: bool,
        (hidden, ff, n_heads): (usize, usize, usize),
    ) -> Self {
        let mut model = Self {
            architecture,
            n_layers: 2,
            n_heads,
            n_kv_heads: 2,
            head_dim: 16,
            hidden,
            ff,
            n_vocab: N_VOCAB,
            tensors: BTreeMap::new(),
        };
        let (hidden, ff, head_dim) = (model.hidden, model.ff, model.head_dim);
        let (n_query, n_kv) = (model.n_heads * head_dim, model.n_kv_heads * head_dim);
        model.add("model.embed_tokens.weight", &[N_VOCAB, hidden]);
        model.add("model.norm.weight", &[hidden]);
        if !tied {
            model.add("lm_head.weight", &[N_VOCAB, hidden]);
        }
        for layer_idx in 0..model.n_layers {
            let mut add = |name: &str, shape: &[usize]| {
                model.add(&format!("model.layers.{layer_idx}.{name}"), shape);
            };
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            for (name, n_rows) in [("q", n_query), ("k", n_kv), ("v", n_kv)] {
                add(&format!("self_attn.{name}_proj.weight"), &[n_rows, hidden]);
                if architecture == "qwen2" {
                    add(&format!("self_attn.{name}_proj.bias"), &[n_rows]);
                }
            }
            if architecture == "qwen3" {
                add("self_attn.q_norm.weight", &[head_dim]);
                add("self_attn.k_norm.weight", &[head_dim]);
            }
            add("self_attn.o_proj.weight", &[hidden, n_query]);
            add("mlp.gate_proj.weight", &[ff, hidden]);
            add("mlp.up_proj.weight", &[ff, hidden]);
            add("mlp.down_proj.weight", &[hidden, ff]);
        }
        model
    }

    /// A tensor of random values, which follow from its name.
    pub(super) fn add(&mut self, name: &str, shape: &[usize]) {
        let mut random = Random(
            name.bytes()
                .fold(7, |hash, byte| hash.wrapping_mul(31) + u64::from(byte)),
        );
        let size = if name.contains("norm") { 1.0 } else { 0.4 };
        let n_values = shape.iter().product();
        let values = (0..n_values)
            .map(|_| f16::from_f32(size * random.value()).to_f32())
            .collect();
        self.tensors.insert(
            name.to_owned(),
            Tensor {
                shape: shape.to_vec(),
                values,
            },
        );
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }
}

/// The texts of the vocabulary's tokens.
pub(super) fn vocabulary() -> Vec<String> {
    let special = ["<|end|>", "<|user|>", "<|bot|>"].map(str::to_owned);
    let bytes = (0..=u8::MAX).map(|byte| char_of_byte(byte).to_string());
    special
        .into_iter()
        .chain(bytes)
        .chain(["he".into(), "hel".into()])
        .collect()
}

/// A metadata value of a GGUF file.
#[derive(Debug, Clone)]
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

/// Name, shape with rows first, ggml type, bytes.
pub(super) type FileTensor = (String, Vec<usize>, u32, Vec<u8>);

/// A GGUF file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct GgufFile {
    pub(super) metadata: Vec<(String, Meta)>,
    pub(super) tensors: Vec<FileTensor>,
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Meta {
    fn put(&self, out: &mut Vec<u8>) {
        let array = |out: &mut Vec<u8>, kind: u32, len: usize| {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        };
        match self {
            Meta::U32(value) => out.extend([4u32.to_le_bytes(), value.to_le_bytes()].concat()),
            Meta::F32(value) => out.extend([6u32.to_le_bytes(), value.to_le_bytes()].concat()),
            Meta::Bool(value) => out.extend([7, 0, 0, 0, u8::from(*value)]),
            Meta::Text(text) => {
                out.extend(8u32.to_le_bytes());
                put_text(out, text);
            }
            Meta::Texts(texts) => {
                array(out, 8, texts.len());
                texts.iter().for_each(|text| put_text(out, text));
            }
            Meta::I32s(values) => {
                array(out, 5, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Meta::F32s(values) => {
                array(out, 6, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
}

impl GgufFile {
    /// Metadata of a byte-level vocabulary.
    pub(crate) fn with_vocabulary(pre: &str) -> Self {
        let mut types = vec![1; N_VOCAB];
        types[..3].fill(3);
        let merges = ["h e", "he l"].map(str::to_owned).to_vec();
        let mut file = Self::default();
        file.set("tokenizer.ggml.model", Meta::Text("gpt2".into()));
        file.set("tokenizer.ggml.pre", Meta::Text(pre.into()));
        file.set("tokenizer.ggml.tokens", Meta::Texts(vocabulary()));
        file.set("tokenizer.ggml.token_type", Meta::I32s(types));
        file.set("tokenizer.ggml.merges", Meta::Texts(merges));
        file.set("tokenizer.ggml.eos_token_id", Meta::U32(0));
        file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
        file.set("tokenizer.ggml.add_bos_token", Meta::Bool(false));
        file
    }

    /// A model with its weights in F16, norms and biases in F32, as llama.cpp's converter writes them.
    pub(super) fn of(model: &Model) -> Self {
        let mut file = Self::with_vocabulary("smollm");
        let name = model.architecture;
        file.set("general.architecture", Meta::Text(name.into()));
        for (key, value) in [
            ("block_count", model.n_layers),
            ("context_length", 128),
            ("embedding_length", model.hidden),
            ("feed_forward_length", model.ff),
            ("attention.head_count", model.n_heads),
            ("attention.head_count_kv", model.n_kv_heads),
            ("attention.key_length", model.head_dim),
            ("rope.dimension_count", model.head_dim),
        ] {
            file.set(&format!("{name}.{key}"), Meta::U32(value as u32));
        }
        file.set(&format!("{name}.rope.freq_base"), Meta::F32(THETA));
        file.set(
            &format!("{name}.attention.layer_norm_rms_epsilon"),
            Meta::F32(EPS),
        );
        for (name, tensor) in &model.tensors {
            let mut tensor = tensor.clone();
            let is_rotated = name.contains("q_proj") || name.contains("k_proj");
            if ["llama", "smollm3"].contains(&model.architecture) && is_rotated {
                tensor = interleaved(&tensor, model.head_dim);
            }
            let (kind, bytes): (u32, Vec<u8>) = if tensor.shape.len() == 1 {
                (
                    0,
                    tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                )
            } else {
                (
                    1,
                    tensor
                        .values
                        .iter()
                        .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                        .collect(),
                )
            };
            file.tensors
                .push((gguf_name(name), tensor.shape, kind, bytes));
        }
        file
    }

    /// The same with its matrices in BF16.
    pub(super) fn in_bf16(mut self) -> Self {
        for (_, shape, kind, bytes) in &mut self.tensors {
            if shape.len() == 2 {
                *kind = 30;
                for half in bytes.as_chunks_mut::<2>().0 {
                    let value = half::f16::from_le_bytes(*half).to_f32();
                    *half = half::bf16::from_f32(value).to_le_bytes();
                }
            }
        }
        self
    }

    pub(crate) fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            value.put(&mut out);
        }
        let mut offset = 0;
        for (name, shape, kind, bytes) in &self.tensors {
            put_text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .rev()
                .for_each(|n| out.extend((*n as u64).to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(32);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

/// Row i of a head's first half beside row i of its second: what llama.cpp's converter does for its own
/// rotation of neighbours.
fn interleaved(tensor: &Tensor, head_dim: usize) -> Tensor {
    let n_cols = tensor.values.len() / tensor.shape[0];
    let rows: Vec<&[f32]> = tensor.values.chunks_exact(n_cols).collect();
    let values = rows
        .chunks_exact(head_dim)
        .flat_map(|head| (0..head_dim).flat_map(|i| head[i / 2 + i % 2 * (head_dim / 2)].to_vec()))
        .collect();
    Tensor {
        shape: tensor.shape.clone(),
        values,
    }
}

fn gguf_name(name: &str) -> String {
    let fixed = HashMap::from([
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ]);
    if let Some(name) = fixed.get(name) {
        return (*name).to_owned();
    }
    name.replace("model.layers.", "blk.")
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("self_attn.q_norm", "attn_q_norm")
        .replace("self_attn.k_norm", "attn_k_norm")
        .replace("self_attn.q_proj", "attn_q")
        .replace("self_attn.k_proj", "attn_k")
        .replace("self_attn.v_proj", "attn_v")
        .replace("self_attn.o_proj", "attn_output")
        .replace("mlp.gate_proj", "ffn_gate")
        .replace("mlp.up_proj", "ffn_up")
        .replace("mlp.down_proj", "ffn_down")
}

/// A safetensors file of F16 tensors.
pub(super) fn safetensors<'a>(tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(
            tensor
                .values
                .iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes()),
        );
        let entry = json!({
            "dtype": "F16", "shape": tensor.shape, "data_offsets": [start, data.len()]
        });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat()
}

/// `tokenizer.json` of the vocabulary above.
pub(super) fn tokenizer_json() -> serde_json::Value {
    let vocab: serde_json::Map<_, _> = vocabulary()
        .into_iter()
        .zip(0u32..)
        .map(|(text, id)| (text, json!(id)))
        .collect();
    let added: Vec<_> = vocabulary()[..3]
        .iter()
        .zip(0u32..)
        .map(|(text, id)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": false, "vocab": vocab, "merges": [["h", "e"], ["he", "l"]]}
    })
}

/// `config.json` of a model.
pub(super) fn config_json(model: &Model) -> serde_json::Value {
    let name = match model.architecture {
        "llama" => "LlamaForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        _ => "Qwen3ForCausalLM",
    };
    json!({
        "architectures": [name], "hidden_size": model.hidden, "intermediate_size": model.ff,
        "num_hidden_layers": model.n_layers, "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads, "head_dim": model.head_dim,
        "rms_norm_eps": EPS, "rope_theta": THETA, "vocab_size": model.n_vocab,
        "max_position_embeddings": 128, "hidden_act": "silu",
        "tie_word_embeddings": model.tensor("lm_head.weight").is_none()
    })
}

/// Writes a model as a folder, its tensors in two shards.
pub(super) fn write_folder(dir: &TempDir, model: &Model) {
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let half = model.tensors.len() / 2;
    dir.write(shards[0], safetensors(model.tensors.iter().take(half)));
    dir.write(shards[1], safetensors(model.tensors.iter().skip(half)));
    let names: serde_json::Map<_, _> = model
        .tensors
        .keys()
        .enumerate()
        .map(|(idx, name)| (name.clone(), json!(shards[usize::from(idx >= half)])))
        .collect();
    dir.write(
        "model.safetensors.index.json",
        json!({"weight_map": names}).to_string(),
    );
    dir.write("config.json", config_json(model).to_string());
    dir.write("tokenizer.json", tokenizer_json().to_string());
    dir.write(
        "generation_config.json",
        json!({"eos_token_id": [0, 2]}).to_string(),
    );
    let settings =
        json!({"eos_token": {"content": "<|end|>"}, "chat_template": "{{ eos_token }}!"});
    dir.write("tokenizer_config.json", settings.to_string());
}
