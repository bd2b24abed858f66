//! What tests of constraints draw from: schemas, the grammar crate's own and those of MaskBench, and a real vocabulary.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lmrun::grammar_suite::{Case, Cases, Source, read_vocabulary};
use lmrun_grammar::Vocabulary;
use serde_json::Value;

/// The tokens of the file in tiktoken's format that `LMRUN_VOCABULARY` names, else those of the default model.
pub fn vocabulary() -> &'static Arc<Vocabulary> {
    static VOCABULARY: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    VOCABULARY.get_or_init(|| match std::env::var_os("LMRUN_VOCABULARY") {
        Some(path) => read_vocabulary(Path::new(&path)).expect("a file in tiktoken's format"),
        None => {
            let model = lmrun::models::ensure_default().expect("the default model");
            lmrun_engine::open_vocabulary(&model).expect("the default model's vocabulary")
        }
    })
}

/// The grammar crate's own schemas, each with its name.
pub fn own_schemas() -> Vec<(String, Value)> {
    include_str!("../../grammar/tests/data/schemas.jsonl")
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).expect(line);
            (case["name"].to_string(), case["schema"].take())
        })
        .collect()
}

/// About `n` of the schemas in `maskbench/*.jsonl` of the folder that `LMRUN_DATA` names, evenly spread.
pub fn schemas_of_data(n: usize) -> Vec<(String, Value)> {
    let data = std::env::var_os("LMRUN_DATA").expect("LMRUN_DATA names a folder of test data");
    let folder = PathBuf::from(data).join("maskbench");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder holds maskbench/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    paths.sort();
    let schemas: Vec<(String, Value)> = paths
        .iter()
        .flat_map(|path| Cases::open(path).expect("a file of cases"))
        .filter_map(|case| match case.expect("a case") {
            Case {
                name,
                source: Source::Schema(schema),
                ..
            } => Some((name, schema)),
            _ => None,
        })
        .collect();
    assert!(!schemas.is_empty(), "no schema in {}", folder.display());
    let every = (schemas.len() / n).max(1);
    schemas.into_iter().step_by(every).take(n).collect()
}

/// How many failures, and the first of them, one a line.
pub fn listed(failures: &[String]) -> String {
    const N_SHOWN: usize = 20;
    let mut text = format!("{} failures", failures.len());
    for failure in failures.iter().take(N_SHOWN) {
        text.push('\n');
        text.extend(failure.chars().take(2_000));
    }
    text
}
