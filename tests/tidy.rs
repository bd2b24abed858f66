//! The house rules that a program can check: who imports whom, how long files are, how they open, where `unsafe` is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every allowed edge between our packages, as ARCHITECTURE.md's map has them.
const ALLOWED: &[(&str, &[&str])] = &[
    ("lmrun-lang", &[]),
    ("lmrun-grammar", &[]),
    ("lmrun-radix-cache", &[]),
    ("lmrun-kernels", &[]),
    ("lmrun-model", &["lmrun-kernels"]),
    ("lmrun-engine", &["lmrun-model", "lmrun-kernels", "lmrun-grammar", "lmrun-radix-cache"]),
    ("lmrun-interpreter", &["lmrun-lang", "lmrun-grammar", "lmrun-engine"]),
    ("lmrun-server", &["lmrun-interpreter", "lmrun-engine", "lmrun-lang", "lmrun-grammar"]),
    ("lmrun", &["lmrun-lang", "lmrun-interpreter", "lmrun-engine", "lmrun-server"]),
];

const MAX_LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn crates_import_only_what_the_map_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), ALLOWED.len(), "every package stands in the table");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) =
            ALLOWED.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let imported = dependency["name"].as_str().expect("a name");
            let ours = imported.starts_with("lmrun") && dependency["kind"].is_null();
            assert!(!ours || allowed.contains(&imported), "{name} must not import {imported}");
        }
    }
}

/// Every Rust file of the repository.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 100, "{} files", found.len());
    found
}

#[test]
fn files_open_with_what_they_are_and_end_in_time() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let n_lines = text.lines().count();
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", path.display()));
        }
        if n_lines > MAX_LINES {
            wrong.push(format!("{} has {n_lines} lines, the limit is {MAX_LINES}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    // Built from two halves, so that this file does not find itself.
    let allow = ["allow(", "unsafe_code"].concat();
    let expect = ["expect(", "unsafe_code"].concat();
    let mut n_in_model = 0;
    for path in sources() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let n = text.matches(&allow).count() + text.matches(&expect).count();
        let place = path.strip_prefix(root()).expect("below the root");
        if place.starts_with("model") {
            n_in_model += n;
        } else if !place.starts_with("kernels") {
            assert_eq!(n, 0, "{} lifts the ban on unsafe code", place.display());
        }
    }
    assert!(n_in_model <= 1, "model maps a file in one place, and nothing else is unsafe there");
}
