//! Every family against Transformers, as a folder and as a GGUF file: small random checkpoints, whose logits
//! `tests/peers/hf_logits.py` has computed and written to `data/families.jsonl`.
//!
//! Weights are made from their tensors' names, here and there alike.

use serde_json::{Value, json};

use super::decoding::{Machine, decoder, machines, run, whole};
use super::synthetic::{GgufFile, Meta, Model, TempDir, safetensors, tokenizer_json};
use crate::{Checkpoint, Config};

/// The file's first line, then one for each family.
fn families() -> (Value, Vec<Value>) {
    let lines = include_str!("data/families.jsonl").lines();
    let mut lines = lines.map(|line| serde_json::from_str(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

fn uint(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The family's name in GGUF files.
fn architecture(family: &Value) -> &'static str {
    match family["config"]["architectures"][0].as_str().unwrap() {
        "LlamaForCausalLM" | "MistralForCausalLM" => "llama",
        "Qwen2ForCausalLM" => "qwen2",
        "Qwen3ForCausalLM" => "qwen3",
        "SmolLM3ForCausalLM" => "smollm3",
        "Phi3ForCausalLM" => "phi3",
        "GemmaForCausalLM" => "gemma",
        "Gemma2ForCausalLM" => "gemma2",
        "Gemma3ForCausalLM" => "gemma3",
        other => panic!("{other}"),
    }
}

fn model(family: &Value) -> Model {
    let config = &family["config"];
    let n_heads = uint(&config["num_attention_heads"]);
    let hidden = uint(&config["hidden_size"]);
    let mut model = Model {
        architecture: architecture(family),
        n_layers: uint(&config["num_hidden_layers"]),
        n_heads,
        n_kv_heads: uint(&config["num_key_value_heads"]),
        head_dim: config["head_dim"]
            .as_u64()
            .map_or(hidden / n_heads, |n| n as usize),
        hidden,
        ff: uint(&config["intermediate_size"]),
        n_vocab: uint(&config["vocab_size"]),
        tensors: Default::default(),
    };
    for (name, shape) in family["shapes"].as_object().unwrap() {
        let shape: Vec<usize> = shape.as_array().unwrap().iter().map(uint).collect();
        model.add(name, &shape);
    }
    model
}

fn write_folder(dir: &TempDir, config: &Value, model: &Model) {
    dir.write("model.safetensors", safetensors(model.tensors.iter()));
    dir.write("config.json", config.to_string());
    dir.write("tokenizer.json", tokenizer_json().to_string());
}

/// Writes what Transformers 4 wrote: rotation at the top, no list of layers.
fn in_older_words(config: &Value) -> Value {
    let mut config = config.clone();
    let keys = config.as_object_mut().unwrap();
    keys.remove("layer_types");
    let rope = keys.remove("rope_parameters").unwrap();
    if rope["full_attention"].is_null() {
        keys.insert("rope_theta".into(), rope["rope_theta"].clone());
        if rope["rope_type"] != "default" {
            keys.insert("rope_scaling".into(), rope);
        }
    } else {
        let (full, windowed) = (&rope["full_attention"], &rope["sliding_attention"]);
        keys.insert("rope_theta".into(), full["rope_theta"].clone());
        keys.insert(
            "rope_local_base_freq".into(),
            windowed["rope_theta"].clone(),
        );
        keys.insert("sliding_window_pattern".into(), json!(6));
    }
    config
}

/// What llama.cpp's converter makes of a folder.
fn gguf(family: &Value, model: &Model) -> GgufFile {
    let config = &family["config"];
    let mut model = model.clone();
    let is_gemma = model.architecture.starts_with("gemma");
    let has_post_norms =
        config["architectures"][0] == "Gemma2ForCausalLM" || model.architecture == "gemma3";
    let tensors = std::mem::take(&mut model.tensors)
        .into_iter()
        .map(|(name, mut tensor)| {
            if is_gemma && name.contains("norm") {
                tensor.values.iter_mut().for_each(|value| *value += 1.0);
            }
            let mut name = name
                .replace("self_attn.qkv_proj", "attn_qkv")
                .replace("mlp.gate_up_proj", "ffn_up");
            if has_post_norms {
                name = name
                    .replace("post_attention_layernorm", "post_attention_norm")
                    .replace("pre_feedforward_layernorm", "ffn_norm")
                    .replace("post_feedforward_layernorm", "post_ffw_norm");
            }
            (name, tensor)
        });
    model.tensors = tensors.collect();
    let mut file = GgufFile::of(&model);
    let float = |value: &Value| value.as_f64().map(|x| Meta::F32(x as f32));
    let whole = |value: &Value| value.as_u64().map(|n| Meta::U32(n as u32));
    let rope = match &config["rope_parameters"]["full_attention"] {
        Value::Null => &config["rope_parameters"],
        full => full,
    };
    for (key, value) in [
        (
            "attention.layer_norm_rms_epsilon",
            float(&config["rms_norm_eps"]),
        ),
        (
            "attn_logit_softcapping",
            float(&config["attn_logit_softcapping"]),
        ),
        (
            "final_logit_softcapping",
            float(&config["final_logit_softcapping"]),
        ),
        ("rope.freq_base", float(&rope["rope_theta"])),
        ("attention.sliding_window", whole(&config["sliding_window"])),
    ] {
        if let Some(value) = value {
            file.set(&format!("{}.{key}", model.architecture), value);
        }
    }
    scaled(&mut file, model.architecture, rope, model.head_dim);
    file
}

/// Adds what the converter says of rotation.
fn scaled(file: &mut GgufFile, architecture: &str, rope: &Value, head_dim: usize) {
    let mut set = |key: &str, value| file.set(&format!("{architecture}.rope.{key}"), value);
    let n_rotated = rope["partial_rotary_factor"].as_f64().unwrap_or(1.0) * head_dim as f64;
    set("dimension_count", Meta::U32(n_rotated as u32));
    let factors = match rope["rope_type"].as_str().unwrap() {
        "default" => return,
        "yarn" => {
            set("scaling.type", Meta::Text("yarn".into()));
            set("scaling.factor", Meta::F32(4.0));
            return set("scaling.original_context_length", Meta::U32(32));
        }
        "longrope" => {
            set("scaling.original_context_length", Meta::U32(32));
            // sqrt(1 + ln(128 / 32) / ln 32)
            set("scaling.attn_factor", Meta::F32(1.183_216));
            let short = floats(&rope["short_factor"]);
            [
                ("rope_factors_long.weight", floats(&rope["long_factor"])),
                ("rope_factors_short.weight", short),
            ]
            .to_vec()
        }
        // The blend of Llama 3.1's own code, as divisors, of an original context of 16.
        "llama3" => {
            let divisor = |i: usize| {
                let wavelength = std::f64::consts::TAU * 10_000f64.powf(i as f64 / 8.0);
                let smooth = (16.0 / wavelength - 1.0) / 3.0;
                match wavelength {
                    ..4.0 => 1.0,
                    16.0.. => 8.0,
                    _ => (1.0 / ((1.0 - smooth) / 8.0 + smooth)) as f32,
                }
            };
            vec![("rope_freqs.weight", (0..8).map(divisor).collect())]
        }
        other => panic!("{other}"),
    };
    for (name, factors) in factors {
        let bytes = factors.iter().flat_map(|factor: &f32| factor.to_le_bytes());
        file.tensors
            .push((name.into(), vec![factors.len()], 0, bytes.collect()));
    }
}

/// How far the logits are from Transformers', in units of its largest.
fn distance(checkpoint: &Checkpoint, machine: Machine, head: &Value, family: &Value) -> f32 {
    let tokens: Vec<u32> = floats(&head["tokens"]).iter().map(|x| *x as u32).collect();
    let pages: Vec<u32> = (0..6).rev().collect();
    let given = run(
        &mut *decoder(checkpoint, machine, 2),
        vec![whole(&tokens, &pages)],
    );
    let positions = head["positions"].as_array().unwrap().iter().map(uint);
    let rows = positions.zip(family["logits"].as_array().unwrap());
    let differences = rows.flat_map(|(position, expected)| {
        let given = given.row(position).iter().step_by(uint(&head["stride"]));
        let pairs: Vec<_> = given.copied().zip(floats(expected)).collect();
        pairs
            .into_iter()
            .map(|(given, expected)| (given - expected).abs())
    });
    differences.fold(0.0, f32::max) / family["largest"].as_f64().unwrap() as f32
}

fn open(path: &std::path::Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_family_computes_what_transformers_computes() {
    let (head, families) = families();
    assert_eq!(families.len(), 11);
    for family in &families {
        let name = family["family"].as_str().unwrap();
        let (model, dir) = (model(family), TempDir::new(&format!("peers-{name}")));
        write_folder(&dir, &family["config"], &model);
        let file = dir.write("model.gguf", gguf(family, &model).bytes());
        for path in [dir.path(), &file] {
            // A window over Qwen 2 has no place in a GGUF file.
            if name == "qwen2" && path == file {
                continue;
            }
            let mut checkpoint = open(path);
            if name == "gemma2" && path == file {
                // A GGUF file leaves this to the model's size.
                checkpoint.config.attention_scale = Config::scale_of(24);
            }
            for machine in machines() {
                let off = distance(&checkpoint, machine, &head, family);
                let limit = match machine {
                    Machine::Reference => 2e-5,
                    // Keys, values and attention's weights are bf16.
                    Machine::Cpu | Machine::CpuKv(_) => 2e-2,
                    // Weights and what they meet are bf16 too.
                    Machine::Gpu | Machine::GpuF16 => 4e-2,
                };
                let path = path.display();
                assert!(off < limit, "{path} on {machine:?}: off by {off}");
            }
        }
    }
}

/// A folder says the same in the words of Transformers 4 and 5.
#[test]
fn older_folders_say_the_same() {
    for family in families().1 {
        let dir = TempDir::new(&format!("older-{}", family["family"].as_str().unwrap()));
        let model = model(&family);
        let read = |config: &Value| -> Config {
            write_folder(&dir, config, &model);
            open(dir.path()).config
        };
        let newer = read(&family["config"]);
        assert_eq!(newer, read(&in_older_words(&family["config"])));
    }
}
