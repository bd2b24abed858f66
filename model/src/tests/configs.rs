//! What configurations mean: frequencies, windows, rotations, as files of either kind ask for them.

use serde_json::{Value, json};

use super::synthetic::{GgufFile, Meta, Model, TempDir, config_json, write_folder};
use crate::config::rope_frequencies;
use crate::{Checkpoint, Config, LayerConfig, Rope, RopeLayout, RopeScaling};

fn rope(theta: f32, n_rotated: usize, scaling: RopeScaling) -> Rope {
    Rope {
        theta,
        layout: RopeLayout::Halves,
        n_rotated,
        scaling,
        factors: None,
        scale: 1.0,
    }
}

fn of_gguf(dir: &TempDir, file: &GgufFile) -> Result<Config, String> {
    let path = dir.write("model.gguf", file.bytes());
    let checkpoint = Checkpoint::open(&path).map_err(|error| error.to_string());
    Ok(checkpoint?.config)
}

fn of_folder(dir: &TempDir, changes: &Value) -> Result<Config, String> {
    let model = Model::new("llama", false);
    write_folder(dir, &model);
    let mut config = config_json(&model);
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    dir.write("config.json", config.to_string());
    let checkpoint = Checkpoint::open(dir.path()).map_err(|error| error.to_string());
    Ok(checkpoint?.config)
}

#[test]
fn frequencies_are_scaled_as_the_file_asks() {
    let dir = TempDir::new("scaling");
    let mut file = GgufFile::of(&Model::new("llama", true));
    let plain = rope_frequencies(&of_gguf(&dir, &file).unwrap().ropes[0]);
    file.set("llama.rope.scaling.type", Meta::Text("linear".into()));
    file.set("llama.rope.scaling.factor", Meta::F32(4.0));
    let scaled = rope_frequencies(&of_gguf(&dir, &file).unwrap().ropes[0]);
    for (scaled, plain) in scaled.iter().zip(&plain) {
        assert!((scaled * 4.0 - plain).abs() < 1e-7);
    }
    file.set("llama.rope.scaling.type", Meta::Text("ntk".into()));
    let refusal = of_gguf(&dir, &file).unwrap_err();
    assert!(refusal.contains("rope scaling ntk"), "{refusal}");
}

/// Llama 3.1's own numbers, worked out with its published formula.
#[test]
fn llama_3_scaling_keeps_high_and_divides_low_frequencies() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    let plain = rope_frequencies(&rope(500_000.0, 128, RopeScaling::None));
    let scaled = rope_frequencies(&rope(500_000.0, 128, scaling));
    for (plain, scaled) in plain.iter().zip(&scaled) {
        let wavelength = std::f32::consts::TAU / plain;
        let ratio = plain / scaled;
        if wavelength < 8192.0 / 4.0 {
            assert!((ratio - 1.0).abs() < 1e-5);
        } else if wavelength > 8192.0 {
            assert!((ratio - 8.0).abs() < 1e-4);
        } else {
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            let expected = (1.0 - smooth) * plain / 8.0 + smooth * plain;
            assert!((scaled - expected).abs() < 1e-6 * plain);
        }
    }
}

/// YaRN's published bounds: what turns 32 times in the original context is kept, what turns once is divided.
#[test]
fn yarn_keeps_what_turns_often() {
    let scaling = RopeScaling::Yarn {
        factor: 4.0,
        beta_slow: 1.0,
        beta_fast: 32.0,
        original_context: 4096,
    };
    let plain = rope_frequencies(&rope(10_000.0, 128, RopeScaling::None));
    let scaled = rope_frequencies(&rope(10_000.0, 128, scaling));
    let mut n_blended = 0;
    for pair in plain.iter().zip(&scaled).collect::<Vec<_>>().windows(2) {
        let [(plain, scaled), (_, next)] = pair else {
            unreachable!()
        };
        let n_turns = 4096.0 * *plain / std::f32::consts::TAU;
        // Neighbouring frequencies differ by a seventh, and the bounds are rounded to whole indices.
        if n_turns > 32.0 * 1.16 {
            assert!((*plain / *scaled - 1.0).abs() < 1e-5, "{n_turns}");
        } else if n_turns < 1.0 / 1.16 {
            assert!((*plain / *scaled - 4.0).abs() < 1e-4, "{n_turns}");
        } else {
            n_blended += 1;
        }
        assert!(scaled > next);
    }
    assert!(n_blended > 10);
}

#[test]
fn windows_are_those_of_the_file_and_the_family() {
    let dir = TempDir::new("windows");
    let windows = |changes: Value| -> Vec<Option<usize>> {
        let config = of_folder(&dir, &changes).unwrap();
        config.layers.iter().map(|layer| layer.window).collect()
    };
    assert_eq!(windows(json!({})), [None, None]);
    assert_eq!(windows(json!({"sliding_window": 64})), [Some(64); 2]);
    let off = json!({"sliding_window": 64, "use_sliding_window": false});
    assert_eq!(windows(off), [None, None]);
    let types = ["sliding_attention", "full_attention"];
    let mixed = json!({"sliding_window": 7, "layer_types": types});
    assert_eq!(windows(mixed), [Some(7), None]);
    let mut file = GgufFile::of(&Model::new("llama", false));
    file.set("llama.attention.sliding_window", Meta::U32(9));
    let config = of_gguf(&dir, &file).unwrap();
    assert!(config.layers.iter().all(|layer| layer.window == Some(9)));
    for (changes, expected) in [
        (
            json!({"layer_types": ["linear_attention", "full_attention"]}),
            "layers of linear_attention",
        ),
        (
            json!({"layer_types": ["full_attention"]}),
            "layer_types says nothing of 1",
        ),
        (json!({"sliding_window": 0}), "a window of no positions"),
    ] {
        let refusal = of_folder(&dir, &changes).unwrap_err();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

/// The pattern of the Gemma 3 report: five layers with a window and the old base to one without.
#[test]
fn a_gemma_3_file_has_two_rotations() {
    let dir = TempDir::new("gemma3-layers");
    let mut file = GgufFile::of(&Model::new("llama", true));
    for (key, value) in file.metadata.clone() {
        if let Some(name) = key.strip_prefix("llama.") {
            file.set(&format!("gemma3.{name}"), value);
        }
    }
    file.set("general.architecture", Meta::Text("gemma3".into()));
    file.set("gemma3.block_count", Meta::U32(12));
    file.set("gemma3.rope.freq_base", Meta::F32(1e6));
    file.set("gemma3.rope.scaling.type", Meta::Text("linear".into()));
    file.set("gemma3.rope.scaling.factor", Meta::F32(8.0));
    let refusal = of_gguf(&dir, &file).unwrap_err();
    assert!(refusal.contains("sliding_window is missing"), "{refusal}");
    file.set("gemma3.attention.sliding_window", Meta::U32(512));
    let config = of_gguf(&dir, &file).unwrap();
    let windowed = LayerConfig {
        window: Some(512),
        rope: Some(1),
    };
    let full = LayerConfig {
        window: None,
        rope: Some(0),
    };
    let six = [windowed, windowed, windowed, windowed, windowed, full];
    assert_eq!(config.layers, [six, six].concat());
    let linear = RopeScaling::Linear { factor: 8.0 };
    assert_eq!(
        (config.ropes[0].theta, config.ropes[0].scaling),
        (1e6, linear)
    );
    assert_eq!(
        (config.ropes[1].theta, config.ropes[1].scaling),
        (1e4, RopeScaling::None)
    );
}
