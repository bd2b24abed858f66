//! The command line: exit codes, error texts, and what bad input of every kind comes to.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{folder, lmrun, smollm2};

/// Exit code, standard output, standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    said(&lmrun().args(arguments).output().expect("lmrun starts"))
}

/// Runs a program given on standard input.
fn run_source(source: &[u8], arguments: &[&str]) -> (i32, String, String) {
    let mut child = lmrun()
        .args(["run", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lmrun starts");
    // A program refused for its length leaves the pipe early.
    let _ = child.stdin.take().expect("piped").write_all(source);
    said(&child.wait_with_output().expect("it ends"))
}

/// One clear error: the code, a message that names these, and no trace of a panic.
fn assert_refused(outcome: &(i32, String, String), code: i32, named: &[&str]) {
    let (given, stdout, stderr) = outcome;
    assert_eq!(*given, code, "{stdout}{stderr}");
    for part in named {
        assert!(stderr.contains(part), "`{part}` is missing: {stderr}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    assert!(stderr.lines().count() <= 40, "{} lines", stderr.lines().count());
}

#[test]
fn help_has_examples() {
    for command in [vec!["--help"], vec!["run", "--help"], vec!["models", "--help"]] {
        let (code, stdout, _) = run(&command);
        assert_eq!(code, 0);
        assert!(stdout.contains("Examples:") && stdout.contains("lmrun "), "{stdout}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_refused(&run(&["run"]), 2, &["FILE"]);
    assert_refused(&run(&["run", "x.lmp", "--sead", "1"]), 2, &["--sead", "--seed"]);
    assert_refused(&run(&["run", "no-such.lmp"]), 2, &["no-such.lmp"]);
    assert_refused(&run(&["run", "."]), 2, &["cannot read"]);
    assert_refused(&run(&["run", "x.lmp", "--timeout", "5"]), 2, &["500ms"]);
    assert_refused(&run(&["check", "--explain", "E999999"]), 2, &["E999999"]);
}

#[test]
fn wrong_arguments_are_named() {
    let source = b"input n: int(1..9)\nuser \"${n}\"\nassistant gen(x, max_tokens=1)\n";
    assert_refused(&run_source(source, &[]), 2, &["n"]);
    assert_refused(&run_source(source, &["--arg", "n=ten"]), 2, &["n"]);
    assert_refused(&run_source(source, &["--arg", "n=10"]), 2, &["n", "10"]);
    assert_refused(&run_source(source, &["--arg", "m=1"]), 2, &["m", "n"]);
    assert_refused(&run_source(source, &["--arg", "n"]), 2, &["name=value"]);
    assert_refused(&run_source(source, &["--arg-json", "[1]"]), 2, &["object"]);
}

#[test]
fn a_program_that_does_not_check_is_not_run() {
    assert_refused(&run_source(b"user \"${nobody}\"\n", &[]), 3, &["nobody", "error"]);
    assert_refused(&run_source(b"user \"\xff\"\n", &[]), 2, &["UTF-8"]);
    let nested = ["let x = ", &"[".repeat(60_000), &"]".repeat(60_000)].concat();
    assert_refused(&run_source(nested.as_bytes(), &[]), 3, &["nest"]);
    let unclosed = ["let x = ", &"(".repeat(60_000)].concat();
    assert_refused(&run_source(unclosed.as_bytes(), &[]), 3, &["nest"]);
    assert_refused(&run_source(&vec![b' '; 3 << 20], &[]), 2, &["limit"]);
}

#[test]
fn a_failing_program_says_where() {
    let (code, stdout, stderr) = run_source(b"\nfail \"no luck\"\n", &[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(":2:1: ") && stderr.contains("no luck"), "{stderr}");
    let (code, stdout, _) = run_source(b"fail \"no luck\"\n", &["--json"]);
    let envelope: Value = serde_json::from_str(&stdout).expect("an envelope");
    assert_eq!(code, 1);
    assert_eq!(envelope["status"], "failed");
    assert_eq!(envelope["error"]["message"], "no luck");
}

#[test]
fn budgets_and_timeouts_have_their_code() {
    let endless = b"user \"Count to a million.\"\nassistant gen(x)\n";
    assert_refused(&run_source(endless, &["--timeout", "300ms"]), 5, &["time"]);
    let source = b"user \"Hi\"\nassistant gen(x: int(100000..999999))\n";
    assert_refused(&run_source(source, &["--max-tokens", "1"]), 5, &["token"]);
}

#[test]
fn a_model_that_cannot_be_opened_is_named() {
    let folder = folder("broken-models");
    let source = b"user \"Hi\"\nassistant gen(x, max_tokens=1)\n";
    assert_refused(&run_source(source, &["--model", "no-such-model"]), 6, &["no-such-model"]);

    let whole = fs::read(smollm2()).expect("the model");
    for (name, bytes) in [
        ("empty.gguf", &[][..]),
        ("noise.gguf", &[7; 4096][..]),
        ("header.gguf", &whole[..1000]),
        ("truncated.gguf", &whole[..whole.len() / 2]),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("written");
        let path = path.to_str().expect("UTF-8");
        assert_refused(&run_source(source, &["--model", path]), 6, &[name]);
    }
    let folder = folder.to_str().expect("UTF-8");
    assert_refused(&run_source(source, &["--model", folder]), 6, &["broken-models"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = lmrun()
        .args(["check", "--json", "examples/hello.lmp"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lmrun starts");
    drop(child.stdout.take());
    assert_refused(&said(&child.wait_with_output().expect("it ends")), 0, &[]);
}

#[test]
fn an_interrupt_ends_a_run_cleanly() {
    let mut child = lmrun()
        .args(["run", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lmrun starts");
    let source = b"loop max 1000 { user \"Tell a long story.\" assistant gen(x) }\n";
    child.stdin.take().expect("piped").write_all(source).expect("taken");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill starts");
    assert!(interrupted.success());
    let (code, stdout, stderr) = said(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, 130, "{stderr}");
    let envelope: Value = serde_json::from_str(&stdout).expect("an envelope");
    assert_eq!(envelope["status"], "interrupted");
}
