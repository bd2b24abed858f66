//! The engine over a small real model, on the CPU and on the CUDA device's emulator: an output is the same whether the
//! decoder draws its tokens or gives the logits away.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use lmrun_grammar::{Constraint, Limits};
use lmrun_kernels::{Element, KvFormat, emulated};
use lmrun_model::{Checkpoint, DecoderOptions, Precision};
use serde_json::{Map, Value, json};

use super::*;
use crate::{Sampling, Work};

const HIDDEN: usize = 32;
const FF: usize = 64;
const HEAD_DIM: usize = 16;
const N_LAYERS: usize = 2;
const PAGE_SIZE: usize = 8;

/// A decoder that holds no row: what is asked to stay with it is given away, and drawn from by [`Draw::of`].
struct GivingDecoder {
    inner: Box<dyn Decoder>,
    rows: Logits,
    /// The rows of the last forward pass that were drawn from.
    drawn: BTreeSet<usize>,
    /// Draws from a row that was drawn from before.
    n_again: Arc<AtomicUsize>,
}

impl Decoder for GivingDecoder {
    fn config(&self) -> &Config {
        self.inner.config()
    }

    fn page_size(&self) -> usize {
        self.inner.page_size()
    }

    fn n_pages(&self) -> usize {
        self.inner.n_pages()
    }

    fn forward_picked(
        &mut self,
        batch: &Batch<'_>,
        picks: &[Pick<'_>],
    ) -> Result<Logits, ModelError> {
        let given = picks.iter().map(|pick| match pick {
            Pick::Held => Pick::All,
            other => *other,
        });
        let given: Vec<Pick<'_>> = given.collect();
        self.rows = self.inner.forward_picked(batch, &given)?;
        self.drawn.clear();
        Ok(self.rows.clone())
    }

    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let drawn = draws.iter().map(|draw| {
            let is_again = !self.drawn.insert(draw.row_idx);
            self.n_again.fetch_add(usize::from(is_again), Relaxed);
            let mut row = self.rows.row(draw.row_idx).to_vec();
            draw.of(&mut row)
        });
        drawn.collect()
    }

    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize) {
        self.inner.copy_page(from, to, n_tokens);
    }
}

/// Weights by their names: `[shape, values]`, the same in every run.
fn tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut shapes = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![N_VOCAB, HIDDEN],
        ),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer_idx in 0..N_LAYERS {
        let parts: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[4 * HEAD_DIM, HIDDEN]),
            ("self_attn.k_proj", &[2 * HEAD_DIM, HIDDEN]),
            ("self_attn.v_proj", &[2 * HEAD_DIM, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, 4 * HEAD_DIM]),
            ("mlp.gate_proj", &[FF, HIDDEN]),
            ("mlp.up_proj", &[FF, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, FF]),
        ];
        for (name, shape) in parts {
            shapes.push((
                format!("model.layers.{layer_idx}.{name}.weight"),
                shape.to_vec(),
            ));
        }
    }
    let mut n_drawn = 0u64;
    let mut value = || {
        n_drawn += 1;
        (mix(n_drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let filled = shapes.into_iter().map(|(name, shape)| {
        let size = if name.contains("norm") { 1.0 } else { 0.5 };
        let n_values = shape.iter().product::<usize>();
        let values = (0..n_values).map(|_| size * value()).collect();
        (name, shape, values)
    });
    filled.collect()
}

fn safetensors() -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors() {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let offsets = [start, data.len()];
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &data].concat()
}

/// A model of the fake's vocabulary; its tokenizer is of no account here.
fn checkpoint() -> Checkpoint {
    static N_FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let number = N_FOLDERS.fetch_add(1, Relaxed);
    let name = format!("lmrun-engine-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let vocab: Map<String, Value> = (0..N_VOCAB)
        .map(|id| (format!("t{id}"), json!(id)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": false, "vocab": vocab, "merges": []}
    });
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": FF,
        "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": HEAD_DIM, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "vocab_size": N_VOCAB,
        "max_position_embeddings": CONTEXT_LENGTH, "hidden_act": "silu", "tie_word_embeddings": true
    });
    std::fs::write(folder.join("model.safetensors"), safetensors()).unwrap();
    for (name, content) in [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("generation_config.json", json!({"eos_token_id": END})),
        ("tokenizer_config.json", json!({"eos_token": "t260"})),
    ] {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }
    let opened = Checkpoint::open(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    opened.unwrap()
}

/// A decoder on the CPU, or on the emulator, with keys and values in a format; None where there is no emulator.
fn decoder(checkpoint: &Checkpoint, is_gpu: bool, kv_format: KvFormat) -> Option<Box<dyn Decoder>> {
    let options = DecoderOptions {
        precision: Precision::Quantised,
        n_threads: 1,
        page_size: PAGE_SIZE,
        n_pages: 64,
        kv_format,
        ..DecoderOptions::default()
    };
    if !is_gpu {
        return Some(checkpoint.decoder(&options).unwrap());
    }
    let device = emulated(Element::Bf16, 1)?;
    Some(checkpoint.decoder_on_gpu(device, &options).unwrap())
}

fn constraint(pattern: &str) -> Option<Constraint> {
    Some(Constraint::regex(pattern, &Limits::default()).unwrap())
}

fn seeded(seed: u64) -> Sampling {
    Sampling {
        temperature: 0.9,
        top_p: 0.95,
        seed,
        ..Sampling::default()
    }
}

/// Every way of choosing: greedy and drawn, penalised, with ends forbidden, constrained with forced text, with budgets
/// that refuse first choices, with dead ends; and rows that must be read, for alternatives, few tokens and scores.
fn requests() -> Vec<Generate> {
    let penalised = Sampling {
        repetition_penalty: 1.3,
        frequency_penalty: 0.4,
        logit_bias: vec![(97, 2.0), (END, 1.5)],
        ..seeded(3)
    };
    let forced = "(ab|c)+ and so [a-d]{2,9}(bca|é)*!";
    let mut requests = vec![
        at_most(7),
        Generate {
            sampling: seeded(1),
            ..at_most(7)
        },
        Generate {
            sampling: penalised.clone(),
            min_tokens: 4,
            ..at_most(7)
        },
        Generate {
            sampling: seeded(4),
            n_top_logprobs: 3,
            ..at_most(5)
        },
        Generate {
            constraint: constraint("[0-9]{2}x?"),
            without_logprobs: true,
            ..at_most(5)
        },
        Generate {
            constraint: constraint(forced),
            sampling: penalised,
            ..at_most(22)
        },
    ];
    // A long way to the end, which most first choices are too late for.
    requests.extend((0..3).map(|seed| Generate {
        constraint: constraint("<(a{5}|b|[^<>]c)*>!"),
        sampling: seeded(seed),
        ..at_most(6 + seed as usize)
    }));
    requests
}

/// What a decoder makes of every request, all at once: tokens and log-probabilities.
fn outputs(decoder: Box<dyn Decoder>) -> (Vec<Vec<(TokenId, f32)>>, Vec<f32>) {
    let setting = Setting {
        n_pages: 64,
        page_size: PAGE_SIZE,
        max_batch_tokens: 48,
        ..Setting::default()
    };
    let mut bench = Bench::over(decoder, setting);
    let ids: Vec<RequestId> = requests()
        .into_iter()
        .zip(0..)
        .map(|(request, idx)| bench.generate(&prompt(idx % 2, idx, 11), request))
        .collect();
    let scored = bench.submit(Request {
        prompt: prompt(0, 0, 9),
        namespace: 0,
        work: Work::Score(vec![vec![97, 98], vec![99]]),
    });
    bench.run();
    let outputs = ids.into_iter().map(|id| {
        let events = bench.events(id).into_iter();
        let tokens = events.filter_map(|event| match event {
            Event::Token(token) => Some((token.id, token.logprob)),
            Event::Failed(error) => panic!("{id:?}: {error}"),
            _ => None,
        });
        tokens.collect()
    });
    let outputs = outputs.collect();
    let scores = bench.events(scored.unwrap()).into_iter();
    let scores = scores.filter_map(|event| match event {
        Event::Scored { logprobs, .. } => Some(logprobs.concat()),
        _ => None,
    });
    (outputs, scores.flatten().collect())
}

fn check(is_gpu: bool, kv_format: KvFormat) {
    let checkpoint = checkpoint();
    let Some(held) = decoder(&checkpoint, is_gpu, kv_format) else {
        return;
    };
    let n_again = Arc::default();
    let given = GivingDecoder {
        inner: decoder(&checkpoint, is_gpu, kv_format).unwrap(),
        rows: Logits::of_rows([]),
        drawn: BTreeSet::new(),
        n_again: Arc::clone(&n_again),
    };
    let (held, given) = (outputs(held), outputs(Box::new(given)));
    assert_eq!(held.1, given.1, "scores");
    let n_tokens: usize = held.0.iter().map(Vec::len).sum();
    assert!(n_tokens > 40, "{n_tokens} tokens");
    let n_again = n_again.load(Relaxed);
    assert!(n_again > 3, "{n_again} first choices were refused");
    for (idx, (held, given)) in held.0.iter().zip(&given.0).enumerate() {
        let ids = |tokens: &[(TokenId, f32)]| tokens.iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(ids(held), ids(given), "request {idx}");
        for (held, given) in held.iter().zip(given) {
            let is_same = held.1.to_bits() == given.1.to_bits();
            let is_near = (held.1 - given.1).abs() < 1e-5;
            assert!(is_same || (is_gpu && is_near), "{held:?}, {given:?}");
        }
    }
}

#[test]
fn tokens_are_the_same_whoever_draws_on_the_cpu() {
    check(false, KvFormat::Plain);
}

#[test]
fn tokens_are_the_same_whoever_draws_on_the_emulator() {
    check(true, KvFormat::Plain);
}

#[test]
fn keys_and_values_of_eight_bits_carry_a_whole_engine() {
    check(false, KvFormat::Int8);
    check(true, KvFormat::Int8);
    check(true, KvFormat::E4m3);
}
