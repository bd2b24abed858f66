//! Choices among listings as they are found on the hub.

use super::*;

fn chosen(names: &[&str], quant: Option<&str>) -> Result<Vec<String>, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let choice = choose(&names, quant)?;
    Ok(choice
        .files()
        .iter()
        .map(|&idx| names[idx].clone())
        .collect())
}

const QUANTS: &[&str] = &[
    "README.md",
    "config.json",
    "m.IQ4_K_M.gguf",
    "m.Q4_0.gguf",
    "m.Q4_K_M.gguf",
    "m-Q8_0.gguf",
    "mmproj-model-f16.gguf",
];

#[test]
fn a_named_quantisation_is_found_by_the_end_of_a_name() {
    assert_eq!(
        chosen(QUANTS, Some("q4_k_m")),
        Ok(vec!["m.Q4_K_M.gguf".into()])
    );
    assert_eq!(chosen(QUANTS, Some("Q8_0")), Ok(vec!["m-Q8_0.gguf".into()]));
    assert_eq!(
        chosen(QUANTS, Some("m.Q4_0.gguf")),
        Ok(vec!["m.Q4_0.gguf".into()])
    );
}

#[test]
fn without_a_quantisation_the_usual_one_is_taken() {
    assert_eq!(chosen(QUANTS, None), Ok(vec!["m.Q4_K_M.gguf".into()]));
    assert_eq!(
        chosen(&["x.Q3_K_S.gguf"], None),
        Ok(vec!["x.Q3_K_S.gguf".into()])
    );
}

#[test]
fn an_unknown_quantisation_is_answered_with_what_there_is() {
    let reason = chosen(QUANTS, Some("Q2_K")).expect_err("there is no Q2_K");
    assert!(
        reason.contains("m.Q4_0.gguf") && !reason.contains("mmproj"),
        "{reason}"
    );
    let reason = chosen(&["model.safetensors"], Some("Q4_0")).expect_err("no GGUF");
    assert!(reason.contains("no GGUF file"), "{reason}");
}

#[test]
fn parts_are_refused_not_half_taken() {
    let names = [
        "m-Q4_K_M-00001-of-00002.gguf",
        "m-Q4_K_M-00002-of-00002.gguf",
    ];
    let reason = chosen(&names, Some("Q4_K_M")).expect_err("parts");
    assert!(reason.contains("several parts"), "{reason}");
}

#[test]
fn a_folder_is_its_weights_and_what_reads_them() {
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "onnx/model.onnx",
        "config.json",
        "tokenizer.json",
        "training_args.bin",
    ];
    assert_eq!(
        chosen(&names, None),
        Ok(vec![
            "config.json".into(),
            "tokenizer.json".into(),
            "model.safetensors.index.json".into(),
            "model-00001-of-00002.safetensors".into(),
            "model-00002-of-00002.safetensors".into(),
        ])
    );
    let reason = chosen(&["model.safetensors", "config.json"], None).expect_err("no tokenizer");
    assert!(reason.contains("tokenizer.json"), "{reason}");
}
