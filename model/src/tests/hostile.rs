//! Damaged and hostile GGUF files: one error each, never a panic, never memory by the file's word.

use super::synthetic::{FileTensor, GgufFile, Meta, Model, Random, TempDir};
use crate::{Checkpoint, DecoderOptions, ModelError, Precision};

/// Opens and loads; the error says that the file is at fault and which.
fn load(dir: &TempDir, bytes: &[u8]) -> Result<(), ModelError> {
    let path = dir.write("model.gguf", bytes);
    let checkpoint = Checkpoint::open(&path)?;
    let options = DecoderOptions {
        precision: Precision::Quantised,
        n_threads: 1,
        page_size: 16,
        n_pages: 4,
        ..DecoderOptions::default()
    };
    checkpoint.decoder(&options).map(|_| ())
}

fn refusal(dir: &TempDir, file: &GgufFile) -> String {
    let error = load(dir, &file.bytes()).expect_err("a refusal");
    assert!(
        error.to_string().contains("model.gguf"),
        "{error} names no file"
    );
    error.to_string()
}

#[test]
fn every_truncation_is_refused() {
    let dir = TempDir::new("truncated");
    let bytes = GgufFile::of(&Model::new("llama", true)).bytes();
    load(&dir, &bytes).unwrap();
    let (dense, sparse) = ((0..200).step_by(1), (200..bytes.len()).step_by(97));
    for len in dense.chain(sparse).chain([bytes.len() - 1]) {
        assert!(
            load(&dir, &bytes[..len]).is_err(),
            "{len} of {} bytes",
            bytes.len()
        );
    }
}

#[test]
fn no_flipped_byte_panics() {
    let dir = TempDir::new("flipped");
    let whole = GgufFile::of(&Model::new("llama", true)).bytes();
    let header_len = whole.len() - whole.len() / 3;
    let mut random = Random(99);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(header_len);
            bytes[at] = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => random.bits() as u8,
            };
        }
        // Some flips change nothing that matters; what must not happen is a panic or an abort.
        drop(load(&dir, &bytes));
    }
}

/// Sets each key in a good file and looks for the expected words in the refusal.
fn refuses(name: &str, cases: Vec<(&str, Meta, &str)>) {
    let dir = TempDir::new(name);
    let good = GgufFile::of(&Model::new("llama", true));
    for (key, value, expected) in cases {
        let mut file = good.clone();
        file.set(key, value);
        let refusal = refusal(&dir, &file);
        assert!(refusal.contains(expected), "{key}: {refusal}");
    }
}

fn text(text: &str) -> Meta {
    Meta::Text(text.into())
}

#[test]
fn absurd_shapes_are_refused_by_name() {
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    refuses(
        "shapes",
        vec![
            ("llama.attention.head_count", Meta::U32(0), "heads is 0"),
            (
                "llama.attention.head_count",
                Meta::U32(u32::MAX),
                "heads is 4294967295",
            ),
            (
                "llama.attention.head_count_kv",
                Meta::U32(3),
                "cannot share 3 key heads",
            ),
            (
                "llama.attention.key_length",
                Meta::U32(24),
                "heads of 24 elements, expected a multiple of 16",
            ),
            (
                "llama.block_count",
                Meta::U32(u32::MAX),
                "layers is 4294967295",
            ),
            (
                "llama.block_count",
                Meta::U32(3),
                "tensor blk.2.attn_norm.weight is missing",
            ),
            (
                "llama.embedding_length",
                Meta::U32(64),
                "has shape [261, 32]",
            ),
            (
                "llama.feed_forward_length",
                Meta::U32(63),
                "blk.0.ffn_gate.weight has shape [64, 32]",
            ),
            (
                "llama.context_length",
                text("long"),
                "context_length is no whole number",
            ),
            (epsilon, Meta::F32(f32::NAN), "epsilon is NaN"),
            ("llama.rope.freq_base", Meta::F32(-1.0), "base is -1"),
        ],
    );
}

#[test]
fn what_is_not_supported_is_named() {
    refuses(
        "unsupported-gguf",
        vec![
            ("llama.expert_count", Meta::U32(8), "a mixture of experts"),
            ("general.architecture", text("mamba"), "architecture mamba"),
            ("tokenizer.ggml.model", text("bert"), "tokenizer model bert"),
            (
                "tokenizer.ggml.pre",
                text("deepseek-v9"),
                "pre-tokenizer deepseek-v9",
            ),
        ],
    );
}

/// What is left over belongs to equations that are not computed.
#[test]
fn a_tensor_without_a_use_is_refused() {
    let dir = TempDir::new("left-over");
    let mut file = GgufFile::of(&Model::new("llama", true));
    let sinks = (
        "blk.0.attn_sinks.weight".to_owned(),
        vec![4],
        0,
        vec![0; 16],
    );
    file.tensors.push(sinks);
    let refusal = refusal(&dir, &file);
    let expected = "not supported: tensor blk.0.attn_sinks.weight";
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn broken_metadata_is_refused_by_name() {
    refuses(
        "metadata",
        vec![
            ("general.alignment", Meta::U32(0), "general.alignment is 0"),
            (
                "tokenizer.ggml.eos_token_id",
                Meta::U32(261),
                "eos_token_id is 261, there are 261",
            ),
            (
                "tokenizer.ggml.token_type",
                Meta::I32s(vec![1; 5]),
                "261 tokens, 5 token types",
            ),
            (
                "tokenizer.ggml.merges",
                Meta::Texts(vec!["he".into()]),
                "an entry that is no pair",
            ),
            (
                "tokenizer.ggml.merges",
                Meta::Texts(vec!["h zz".into()]),
                "tokenizer",
            ),
            ("tokenizer.ggml.tokens", Meta::Texts(vec![]), "0 tokens"),
        ],
    );
}

#[test]
fn tensors_that_lie_are_refused() {
    let dir = TempDir::new("tensors");
    let good = GgufFile::of(&Model::new("llama", true));
    let change = |change: &dyn Fn(&mut FileTensor)| {
        let mut file = good.clone();
        let tensor = file
            .tensors
            .iter_mut()
            .find(|tensor| tensor.0 == "blk.1.ffn_down.weight");
        change(tensor.unwrap());
        refusal(&dir, &file)
    };
    assert!(change(&|tensor| tensor.2 = 99).contains("unknown type 99"));
    assert!(change(&|tensor| tensor.1 = vec![33, 64]).contains("has shape [33, 64]"));
    assert!(change(&|tensor| tensor.1 = vec![1 << 40, 1 << 30]).contains("no whole number of"));
    assert!(change(&|tensor| tensor.1 = vec![1 << 30, 64]).contains("its data ends at byte"));
    assert!(change(&|tensor| tensor.1 = vec![0, 0]).contains("no whole number of"));
    assert!(change(&|tensor| tensor.1 = vec![1; 5]).contains("5 dimensions"));
    assert!(change(&|tensor| tensor.0 = "blk.0.ffn_down.weight".into()).contains("given twice"));
    assert!(
        change(&|tensor| tensor.0 = "other".into()).contains("blk.1.ffn_down.weight is missing")
    );
    // Q4_K blocks hold 256 values; these rows have 64.
    assert!(change(&|tensor| tensor.2 = 12).contains("no whole number of Q4K blocks"));
}

#[test]
fn huge_counts_cost_no_memory() {
    let dir = TempDir::new("counts");
    let header = |n_tensors: u64, n_values: u64| {
        [
            &b"GGUF\x03\0\0\0"[..],
            &n_tensors.to_le_bytes(),
            &n_values.to_le_bytes(),
        ]
        .concat()
    };
    let value = |kind: &[u8]| [&header(0, 1)[..], &1u64.to_le_bytes(), b"k", kind].concat();
    let strings = [
        &9u32.to_le_bytes()[..],
        &8u32.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
    ]
    .concat();
    let numbers = [
        &9u32.to_le_bytes()[..],
        &10u32.to_le_bytes(),
        &u64::MAX.to_le_bytes(),
    ]
    .concat();
    let nested = [
        &9u32.to_le_bytes()[..],
        &9u32.to_le_bytes(),
        &1u64.to_le_bytes(),
    ]
    .concat();
    let text = [&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    for bytes in [
        header(u64::MAX, 0),
        header(0, u64::MAX),
        header(1 << 16, 1 << 16),
        value(&strings),
        value(&numbers),
        value(&nested),
        value(&text),
        b"GGUF\x01\0\0\0".to_vec(),
        b"GGML".to_vec(),
        Vec::new(),
    ] {
        let error = load(&dir, &bytes).unwrap_err();
        assert!(error.to_string().contains("model.gguf"), "{error}");
    }
    assert!(matches!(
        Checkpoint::open(&dir.path().join("absent.gguf")),
        Err(ModelError::Io { .. })
    ));
}
