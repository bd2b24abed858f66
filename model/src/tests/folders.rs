//! Hugging Face folders: what is read from which file, and what is refused.

use serde_json::json;

use super::synthetic::{Model, TempDir, config_json, safetensors, tokenizer_json, write_folder};
use crate::{Checkpoint, Specials};

fn folder(name: &str) -> TempDir {
    let dir = TempDir::new(name);
    write_folder(&dir, &Model::new("llama", false));
    dir
}

fn refusal(dir: &TempDir) -> String {
    Checkpoint::open(dir.path())
        .err()
        .expect("a refusal")
        .to_string()
}

#[test]
fn tokens_and_template_come_from_their_files() {
    let dir = folder("files");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tokenizer = &checkpoint.tokenizer;
    assert_eq!(tokenizer.end_tokens(), [0, 2]);
    assert_eq!(tokenizer.bos(), None);
    let text = "hello <|user|>";
    let parsed = tokenizer.encode(text, Specials::Parse);
    assert_eq!(parsed.last(), Some(&1));
    assert_eq!(parsed[0], 260, "`hel` is one token");
    let plain = tokenizer.encode(text, Specials::AsText);
    assert!(plain.iter().all(|token| !tokenizer.is_special(*token)));
    assert_eq!(tokenizer.decode(&plain), text);
    let template = checkpoint.chat_template.as_ref().unwrap();
    assert_eq!(template.render(&json!([]), None, true).unwrap(), "<|end|>!");
    dir.write("chat_template.jinja", "from the file");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.chat_template.unwrap().source(), "from the file");
}

#[test]
fn one_shard_needs_no_index() {
    let dir = folder("one-shard");
    let model = Model::new("llama", false);
    std::fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    dir.write("model.safetensors", safetensors(model.tensors.iter()));
    assert!(Checkpoint::open(dir.path()).is_ok());
}

#[test]
fn what_is_not_supported_is_named() {
    let model = Model::new("llama", false);
    for (key, value, expected) in [
        (
            "architectures",
            json!(["MambaForCausalLM"]),
            "architecture MambaForCausalLM",
        ),
        ("hidden_act", json!("gelu"), "activation gelu"),
        ("mlp_bias", json!(true), "biases in the feed-forward layer"),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantised safetensors",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "dynamic", "factor": 4.0}),
            "rope scaling dynamic",
        ),
        (
            "rope_scaling",
            json!({"rope_type": "linear"}),
            "without factor",
        ),
        ("num_attention_heads", json!(0), "heads is 0"),
        (
            "num_attention_heads",
            json!(-4),
            "num_attention_heads is -4",
        ),
        (
            "num_attention_heads",
            json!("four"),
            "expected a whole number",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "4 heads cannot share 3 key heads",
        ),
        ("head_dim", json!(8), "expected a multiple of 16"),
        ("hidden_size", json!(u64::MAX), "hidden length"),
        (
            "vocab_size",
            json!(100),
            "261 tokens, the embedding has 100 rows",
        ),
    ] {
        let dir = folder("unsupported");
        let mut config = config_json(&model);
        config[key] = value;
        dir.write("config.json", config.to_string());
        let refusal = refusal(&dir);
        assert!(refusal.contains(expected), "{key}: {refusal}");
        assert!(
            refusal.contains("lmrun-model-unsupported"),
            "{refusal} names no file"
        );
    }
}

#[test]
fn damaged_files_are_refused() {
    let model = Model::new("llama", false);
    let whole = safetensors(model.tensors.iter());
    let mut tokenizer = tokenizer_json();
    tokenizer["model"]["merges"] = json!([["h", "absent"]]);
    let outside = json!({"weight_map": {"x": "../model.safetensors"}}).to_string();
    for (name, bytes) in [
        ("config.json", b"{".to_vec()),
        ("config.json", b"[]".to_vec()),
        ("tokenizer.json", b"[]".to_vec()),
        ("tokenizer.json", tokenizer.to_string().into_bytes()),
        ("model.safetensors.index.json", outside.into_bytes()),
        ("model.safetensors.index.json", b"{}".to_vec()),
        ("model-00001-of-00002.safetensors", Vec::new()),
        ("model-00001-of-00002.safetensors", vec![0xff; 64]),
        (
            "model-00001-of-00002.safetensors",
            whole[..whole.len() - 1].to_vec(),
        ),
        ("chat_template.jinja", b"{% if".to_vec()),
    ] {
        let dir = folder("damaged");
        dir.write(name, bytes);
        let refusal = refusal(&dir);
        assert!(!refusal.is_empty(), "{name}");
    }
    for name in [
        "config.json",
        "tokenizer.json",
        "model-00002-of-00002.safetensors",
    ] {
        let dir = folder("missing");
        std::fs::remove_file(dir.path().join(name)).unwrap();
        assert!(refusal(&dir).contains(name));
    }
}
