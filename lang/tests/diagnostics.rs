//! Wrong programs, each with the findings expected of it as comments.
//!
//! `//~ E101 "part of the message"` expects a finding that begins on its own line, `//~^` one line above it, `//~^^`
//! two. A finding that is missing fails the test, and so does one that nobody expects.

use std::fmt::Write as _;
use std::path::Path;

use lmrun_lang::{Host, check, line_column, render};
use serde_json::Value;

/// Stands for a grammar: refuses look-around, and schemas with `not`.
struct Strict;

impl Host for Strict {
    fn regex(&self, pattern: &str) -> Result<(), String> {
        if pattern.contains("(?=") {
            Err("look-around".to_owned())
        } else {
            Ok(())
        }
    }

    fn schema(&self, schema: &Value) -> Result<(), (String, String)> {
        match schema.get("not") {
            Some(_) => Err(("/not".to_owned(), "`not` is not supported".to_owned())),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Expected {
    line: usize,
    code: String,
    message: String,
}

fn expectations(source: &str) -> Vec<Expected> {
    let mut out = Vec::new();
    for (idx, line) in source.lines().enumerate() {
        let Some((_, note)) = line.split_once("//~") else {
            continue;
        };
        let n_up = note.chars().take_while(|c| *c == '^').count();
        let note = note[n_up..].trim();
        let (code, message) = note.split_once(' ').expect("a code and a message");
        let message = message
            .trim()
            .strip_prefix('"')
            .and_then(|m| m.strip_suffix('"'));
        let message = message
            .expect("the message in quotes")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\");
        out.push(Expected {
            line: idx + 1 - n_up,
            code: code.to_owned(),
            message,
        });
    }
    out
}

/// What differs between the findings of a program and those it expects.
fn differences(name: &str, source: &str) -> String {
    let checked = check(name, source, &Strict);
    let mut expected = expectations(source);
    let mut out = String::new();
    for found in &checked.diagnostics {
        let (line, _) = line_column(source, found.span.start);
        let at = expected.iter().position(|expected| {
            expected.line == line
                && expected.code == found.code
                && found.message.contains(&expected.message)
        });
        match at {
            Some(at) => drop(expected.remove(at)),
            None => writeln!(
                out,
                "{name}:{line}: unexpected {} {}",
                found.code, found.message
            )
            .expect("writing to memory succeeds"),
        }
    }
    for missing in expected {
        writeln!(
            out,
            "{name}:{}: missing {} {:?}",
            missing.line, missing.code, missing.message
        )
        .expect("writing to memory succeeds");
    }
    // Whatever is found can be shown.
    let shown = render(&checked.diagnostics, name, source, false);
    assert!(
        checked
            .diagnostics
            .iter()
            .all(|found| shown.contains(found.code)),
        "{shown}"
    );
    assert_eq!(
        checked.program.is_none(),
        checked.diagnostics.iter().any(|found| found.is_error())
    );
    out
}

#[test]
fn wrong_programs_get_the_findings_they_expect() {
    let mut n_programs = 0;
    let mut out = String::new();
    let folder = Path::new("../tests/diagnostics");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.extension().is_none_or(|extension| extension != "lmp") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(
            !expectations(&source).is_empty(),
            "{} expects nothing",
            path.display()
        );
        out += &differences(&path.file_name().unwrap().to_string_lossy(), &source);
        n_programs += 1;
    }
    assert!(n_programs >= 30, "{n_programs} programs");
    assert!(out.is_empty(), "\n{out}");
}

#[test]
fn the_comparison_itself_can_fail() {
    let missing = differences("a.lmp", "user \"x\" //~ E101 \"nothing\"\n");
    assert!(missing.contains("missing E101"), "{missing}");
    let unexpected = differences("a.lmp", "user \"${x}\"\n");
    assert!(unexpected.contains("unexpected E101"), "{unexpected}");
}
