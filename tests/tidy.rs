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
    (
        "lmrun-engine",
        &[
            "lmrun-model",
            "lmrun-kernels",
            "lmrun-grammar",
            "lmrun-radix-cache",
        ],
    ),
    (
        "lmrun-interpreter",
        &["lmrun-lang", "lmrun-grammar", "lmrun-engine"],
    ),
    (
        "lmrun-server",
        &[
            "lmrun-interpreter",
            "lmrun-engine",
            "lmrun-lang",
            "lmrun-grammar",
        ],
    ),
    (
        "lmrun",
        &[
            "lmrun-lang",
            "lmrun-grammar",
            "lmrun-interpreter",
            "lmrun-engine",
            "lmrun-server",
        ],
    ),
];

const MAX_LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn crates_import_only_what_the_map_allows() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(
        packages.len(),
        ALLOWED.len(),
        "every package stands in the table"
    );
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{name}"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let imported = dependency["name"].as_str().expect("a name");
            let ours = imported.starts_with("lmrun") && dependency["kind"] != "dev";
            assert!(
                !ours || allowed.contains(&imported),
                "{name} must not import {imported}"
            );
        }
        let manifest = package["manifest_path"].as_str().expect("a path");
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{name} has lints of its own"
        );
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
            wrong.push(format!(
                "{} has {n_lines} lines, the limit is {MAX_LINES}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a line lifts the ban on unsafe code, which every package inherits.
fn lifts_the_ban(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#") && line.contains("unsafe_code")
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let mut n_in_model = 0;
    for path in sources() {
        let place = path.strip_prefix(root()).expect("below the root");
        let text = fs::read_to_string(&path).expect("UTF-8");
        let n_lifted = text.lines().filter(|line| lifts_the_ban(line)).count();
        match place
            .components()
            .next()
            .and_then(|first| first.as_os_str().to_str())
        {
            Some("kernels") => {}
            Some("model") => n_in_model += n_lifted,
            _ => assert_eq!(
                n_lifted,
                0,
                "{} lifts the ban on unsafe code",
                place.display()
            ),
        }
    }
    assert!(
        n_in_model <= 1,
        "model maps a file in one place, and nothing else is unsafe there"
    );
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (line_idx, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") || line.starts_with("unsafe impl");
            if !opens || line.starts_with("//") || line.contains('"') {
                continue;
            }
            // The comment stands above the statement, which may take some lines.
            let above = &lines[line_idx.saturating_sub(8)..=line_idx];
            let says = above.iter().any(|line| line.contains("SAFETY:"));
            assert!(
                says,
                "{}:{} has no SAFETY comment",
                path.display(),
                line_idx + 1
            );
        }
    }
}
