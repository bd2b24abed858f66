//! Whole programs on the real model, through the binary: every example runs, is reproducible, and accounts for its tokens.

use std::path::Path;

use serde_json::Value;

use crate::support::lmrun;

/// Runs a program with `--json` and gives its envelope.
fn envelope(arguments: &[&str]) -> Value {
    let output = lmrun()
        .args(["run", "--json"])
        .args(arguments)
        .output()
        .expect("lmrun starts");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
    serde_json::from_str(&stdout).expect("one JSON envelope")
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    path.to_str().expect("a UTF-8 path").to_owned()
}

#[test]
fn every_example_checks_without_a_diagnostic_and_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut n_examples = 0;
    for entry in std::fs::read_dir(folder).expect("examples/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "lmp") {
            continue;
        }
        n_examples += 1;
        let path = path.to_str().expect("UTF-8");
        let check = lmrun()
            .args(["check", path])
            .output()
            .expect("lmrun starts");
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(
            check.status.success() && said.trim().is_empty(),
            "{path}: {said}"
        );
        let envelope = envelope(&["--seed", "1", path]);
        assert_eq!(envelope["status"], "ok", "{path}");
    }
    assert!(n_examples >= 8, "{n_examples} examples");
}

#[test]
fn a_typed_generation_is_of_its_type() {
    let envelope = envelope(&["--seed", "1", &example("extract.lmp")]);
    let person = envelope["result"].as_object().expect("a record");
    let keys: Vec<&str> = person.keys().map(String::as_str).collect();
    assert_eq!(keys, ["name", "age", "mood", "skills"]);
    assert!((0..=150).contains(&person["age"].as_i64().expect("an integer")));
    assert!(["calm", "angry", "unknown"].contains(&person["mood"].as_str().expect("a string")));
}

#[test]
fn scores_are_probabilities() {
    let envelope = envelope(&[&example("classify.lmp")]);
    let scores = envelope["result"]["scores"].as_object().expect("a map");
    let sum: f64 = scores
        .values()
        .map(|score| score.as_f64().expect("a number"))
        .sum();
    assert_eq!(scores.len(), 2);
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn a_seed_reproduces_a_run_and_another_does_not() {
    let run = |seed: &str| envelope(&["--seed", seed, &example("best_of_n.lmp")])["gens"].clone();
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn usage_says_what_was_shared() {
    let envelope = envelope(&["--seed", "1", &example("judge.lmp")]);
    let usage = |key: &str| envelope["usage"][key].as_u64().expect("a number");
    assert!(
        usage("cached") > 0 && usage("cached") < usage("prompt"),
        "{}",
        envelope["usage"]
    );
    assert!(
        usage("forced") <= usage("generated"),
        "{}",
        envelope["usage"]
    );
}
