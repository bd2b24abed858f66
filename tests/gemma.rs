//! Gemma 3 270M, the other model with a name: its tokens against SentencePiece, its logits and its greedy text against
//! Transformers with the same weights in f32. See docs/testing.md; `tests/peers` makes what is expected.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use lmrun::models::{StandardError, Store};
use lmrun_model::{Batch, Checkpoint, Decoder, DecoderOptions, Outputs, Precision, Span, Specials};
use serde_json::Value;

const PAGE_SIZE: usize = 16;

/// The file, fetched if it is not in the cache, and what it holds.
fn gemma() -> &'static Checkpoint {
    static CHECKPOINT: OnceLock<Checkpoint> = OnceLock::new();
    CHECKPOINT.get_or_init(|| {
        let store = Store::from_env(false, StandardError::default()).expect("a cache");
        let path = store.locate("gemma3-270m").expect("the model");
        Checkpoint::open(&path).expect("the model opens")
    })
}

fn data(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    fs::read_to_string(folder.join(name)).expect("a file of the repository")
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("a list").iter();
    ids.map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn decoder(precision: Precision) -> Box<dyn Decoder> {
    let options = DecoderOptions {
        precision,
        n_threads: 2,
        page_size: PAGE_SIZE,
        n_pages: 64,
        ..DecoderOptions::default()
    };
    gemma().decoder(&options).expect("a decoder")
}

/// The logits of some positions, in ascending order.
fn logits(decoder: &mut dyn Decoder, tokens: &[u32], positions: &[usize]) -> Vec<Vec<f32>> {
    let pages: Vec<u32> = (0..tokens.len().div_ceil(PAGE_SIZE) as u32).collect();
    let mut start = 0;
    let row = |&position: &usize| {
        let span = Span {
            tokens: &tokens[start..=position],
            start,
            pages: &pages,
            outputs: Outputs::Last,
        };
        start = position + 1;
        let logits = decoder.forward(&Batch { spans: vec![span] });
        logits.expect("a good batch").row(0).to_vec()
    };
    positions.iter().map(row).collect()
}

#[test]
#[ignore = "fetches 253 MB"]
fn tokens_are_those_of_sentencepiece() {
    let tokenizer = &gemma().tokenizer;
    // More lines of the same form, made by the same script, may be given by a path.
    let lines = match std::env::var_os("LMRUN_TOKENS") {
        Some(path) => fs::read_to_string(path).expect("LMRUN_TOKENS names a file"),
        None => data("gemma3-tokens.jsonl"),
    };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = case["text"].as_str().expect("a text");
        let tokens = tokenizer.encode(text, Specials::AsText);
        assert_eq!(tokens, ids(&case["tokens"]), "{text:?}");
        // SentencePiece writes a space as U+2581, and cannot tell the two apart.
        assert_eq!(tokenizer.decode(&tokens), text.replace('\u{2581}', " "));
    }
}

#[test]
#[ignore = "fetches 253 MB, and computes in f32"]
fn the_reference_precision_equals_transformers() {
    let expected: Value = serde_json::from_str(&data("gemma3-logits.json")).expect("JSON");
    let rows = expected["rows"].as_array().expect("rows");
    let position = |row: &Value| row["position"].as_u64().expect("a position") as usize;
    let positions: Vec<usize> = rows.iter().map(position).collect();
    let mut decoder = decoder(Precision::Reference);
    let given = logits(decoder.as_mut(), &ids(&expected["long"]), &positions);
    for ((row, given), position) in rows.iter().zip(given).zip(positions) {
        let values = row["logits"].as_array().expect("logits").iter();
        let largest = row["largest"].as_f64().expect("a number");
        for (token, expected) in ids(&row["tokens"]).into_iter().zip(values) {
            let off =
                (f64::from(given[token as usize]) - expected.as_f64().expect("a number")).abs();
            assert!(
                off < 1e-4 * largest,
                "position {position}, token {token}: off by {off} of {largest}"
            );
        }
    }
}

#[test]
#[ignore = "fetches 253 MB, and computes in f32"]
fn greedy_text_is_that_of_transformers() {
    let expected: Value = serde_json::from_str(&data("gemma3-logits.json")).expect("JSON");
    for precision in [Precision::Reference, Precision::Quantised] {
        let mut decoder = decoder(precision);
        for case in expected["greedy"].as_array().expect("cases") {
            let tokens = ids(&case["tokens"]);
            let n_prompt = case["n_prompt"].as_u64().expect("a number") as usize;
            let positions: Vec<usize> = (n_prompt - 1..tokens.len() - 1).collect();
            let rows = logits(decoder.as_mut(), &tokens, &positions);
            for (position, row) in positions.into_iter().zip(rows) {
                let expected = tokens[position + 1];
                let best = row.iter().fold(f32::NEG_INFINITY, |best, x| best.max(*x));
                let behind = best - row[expected as usize];
                // Rounded activations may turn what is nearly a tie, and nothing else.
                let limit = if precision == Precision::Reference {
                    0.0
                } else {
                    0.75
                };
                assert!(
                    behind <= limit,
                    "{precision:?}, position {position}: {behind} behind"
                );
            }
        }
    }
}
