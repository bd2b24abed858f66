//! The command line: exit codes, error texts, and what bad input of every kind comes to.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::{folder, lmrun, smollm2};

/// Exit code, standard output, standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (
        output.status.code().expect("no signal"),
        text(&output.stdout),
        text(&output.stderr),
    )
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
    assert!(
        !stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"),
        "{stderr}"
    );
    assert!(
        stderr.lines().count() <= 40,
        "{} lines",
        stderr.lines().count()
    );
}

#[test]
fn help_has_examples() {
    for command in [
        vec!["--help"],
        vec!["run", "--help"],
        vec!["models", "--help"],
        vec!["grammar", "--help"],
        vec!["bench", "--help"],
    ] {
        let (code, stdout, _) = run(&command);
        assert_eq!(code, 0);
        assert!(
            stdout.contains("Examples:") && stdout.contains("lmrun "),
            "{stdout}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_refused(&run(&["run"]), 2, &["FILE"]);
    assert_refused(
        &run(&["run", "x.lmp", "--sead", "1"]),
        2,
        &["--sead", "--seed"],
    );
    assert_refused(&run(&["run", "no-such.lmp"]), 2, &["no-such.lmp"]);
    assert_refused(&run(&["run", "."]), 2, &["cannot read"]);
    assert_refused(&run(&["run", "x.lmp", "--timeout", "5"]), 2, &["500ms"]);
    assert_refused(&run(&["run", "x.lmp", "--threads", "0"]), 2, &["above 0"]);
    assert_refused(
        &run(&["run", "x.lmp", "--json", "--stream=ndjson"]),
        2,
        &["--json"],
    );
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
    assert_refused(
        &run_source(b"user \"${nobody}\"\n", &[]),
        3,
        &["nobody", "error"],
    );
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
    assert!(
        stderr.contains(":2:1: ") && stderr.contains("no luck"),
        "{stderr}"
    );
    let (code, stdout, _) = run_source(b"fail \"no luck\"\n", &["--json"]);
    let envelope: Value = serde_json::from_str(&stdout).expect("an envelope");
    assert_eq!(code, 1);
    assert_eq!(envelope["status"], "failed");
    assert_eq!(envelope["error"]["message"], "no luck");
}

#[test]
fn budgets_and_timeouts_have_their_code() {
    // No machine answers within a millisecond, so this does not depend on how fast this one is.
    let source = b"user \"Count to a million.\"\nassistant gen(x)\n";
    assert_refused(
        &run_source(source, &["--timeout", "1ms"]),
        5,
        &["<stdin>: ", "1 ms"],
    );
    let source = b"user \"Hi\"\nassistant gen(x: int(100000..999999))\n";
    assert_refused(&run_source(source, &["--max-tokens", "1"]), 5, &["token"]);
}

#[test]
fn a_model_that_cannot_be_opened_is_named() {
    let folder = folder("broken-models");
    let source = b"user \"Hi\"\nassistant gen(x, max_tokens=1)\n";
    assert_refused(
        &run_source(source, &["--model", "no-such-model"]),
        6,
        &["no-such-model"],
    );

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
    assert_refused(
        &run_source(source, &["--model", folder]),
        6,
        &["broken-models"],
    );
}

#[test]
fn a_quantised_model_is_not_quantised_again() {
    let source = b"user \"Hi\"\nassistant gen(x, max_tokens=1)\n";
    let path = smollm2();
    let path = path.to_str().expect("UTF-8");
    let outcome = run_source(source, &["--model", path, "--quant", "q4_0"]);
    assert_refused(&outcome, 6, &["token_embd.weight is Q8_0 already"]);
    let outcome = run_source(source, &["--model", path, "--quant", "q3"]);
    assert_refused(&outcome, 2, &["write q8_0 or q4_0"]);
}

/// The one envelope that `--json` prints.
fn envelope(outcome: &(i32, String, String)) -> Value {
    assert_eq!(outcome.1.lines().count(), 1, "{}{}", outcome.1, outcome.2);
    serde_json::from_str(&outcome.1).expect("an envelope")
}

#[test]
fn whoever_asks_for_an_envelope_gets_one_whatever_happens() {
    let asked = |source: &[u8], arguments: &[&str]| {
        let outcome = run_source(source, &[&["--json"], arguments].concat());
        let envelope = envelope(&outcome);
        assert_eq!(envelope["status"], "error", "{envelope}");
        assert!(
            envelope["result"].is_null() && envelope["usage"]["generated"] == 0,
            "{envelope}"
        );
        (outcome.0, envelope["error"].clone())
    };
    let (code, error) = asked(b"let a = 1\nuser \"${nobody}\"\n", &[]);
    assert_eq!(
        (code, &error["kind"], &error["line"]),
        (3, &"check".into(), &2.into())
    );
    assert!(
        error["code"]
            .as_str()
            .is_some_and(|code| code.starts_with('E')),
        "{error}"
    );
    let (code, error) = asked(b"user \"a\"", &["--arg", "x=1"]);
    assert_eq!((code, &error["kind"]), (2, &"arguments".into()));
    let (code, error) = asked(b"user \"a\"", &["--sead", "1"]);
    assert_eq!((code, &error["kind"]), (2, &"arguments".into()));
    let (code, error) = asked(b"user \"a\"", &["--model", "./no-such.gguf"]);
    assert_eq!((code, &error["kind"]), (6, &"backend".into()));
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.contains("no-such.gguf")),
        "{error}"
    );
}

#[test]
fn standard_output_is_the_generated_text_and_then_the_result() {
    let source = b"model \"smollm2\" with (template=\"none\")\n\"1, 2,\" gen(a: / 3, 4/)\n\", five, \" gen(b: /six/)\nreturn { n: [1] }\n";
    let (code, stdout, stderr) = run_source(source, &[]);
    assert_eq!(
        (code, stdout.as_str()),
        (0, " 3, 4\nsix\n{\n  \"n\": [\n    1\n  ]\n}\n"),
        "{stderr}"
    );
    let (code, stdout, stderr) = run_source(
        b"model \"smollm2\" with (template=\"none\")\n\"1, 2,\" gen(a: / 3, 4/)\n",
        &[],
    );
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, " 3, 4\n", ""));
    let (code, stdout, _) = run_source(b"return \"a line\"\n", &[]);
    assert_eq!((code, stdout.as_str()), (0, "a line\n"));
}

#[test]
fn events_are_one_a_line_and_the_envelope_is_the_last() {
    let (code, stdout, stderr) = run_source(
        b"model \"smollm2\" with (template=\"none\")\n\"1, 2,\" gen(a: / 3, 4/)\nreturn a\n",
        &["--stream=ndjson", "--seed", "5"],
    );
    assert_eq!(code, 0, "{stderr}");
    let events: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (last, events) = events.split_last().expect("events");
    let text: String = events
        .iter()
        .filter(|event| event["event"] == "text")
        .map(|event| event["text"].as_str().expect("a string"))
        .collect();
    assert_eq!(text, " 3, 4");
    assert_eq!(
        (&last["event"], &last["status"]),
        (&"envelope".into(), &"ok".into())
    );
    assert_eq!(
        (&last["result"], &last["seed"]),
        (&" 3, 4".into(), &5.into())
    );
}

#[test]
fn a_dry_run_shows_prompts_and_generates_nothing() {
    let (code, stdout, stderr) =
        run_source(b"user \"Well then?\"\nassistant gen(x)\n", &["--dry-run"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("Well then?") && stdout.contains("tokens"),
        "{stdout}"
    );
}

#[test]
fn check_tells_people_and_scripts_apart() {
    let folder = folder("check-formats");
    let (good, bad) = (folder.join("good.lmp"), folder.join("bad.lmp"));
    fs::write(&good, "user \"a\"\nassistant gen(x, max_tokens=1)\n").expect("written");
    fs::write(&bad, "user \"${nobody}\"\n").expect("written");
    let (good, bad) = (good.to_str().expect("UTF-8"), bad.to_str().expect("UTF-8"));

    assert_eq!(run(&["check", good]), (0, String::new(), String::new()));
    let (code, stdout, stderr) = run(&["check", good, bad]);
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(
        stderr.contains("bad.lmp") && stderr.contains("nobody"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\x1b'),
        "no colours where there is no terminal: {stderr}"
    );

    let (code, stdout, stderr) = run(&["check", "--format", "json", good, bad]);
    assert_eq!((code, stderr.as_str()), (3, ""));
    let files: Vec<Value> = serde_json::from_str(&stdout).expect("an array");
    assert_eq!(files.len(), 2, "{stdout}");
    assert_eq!(files[0]["diagnostics"], Value::Array(Vec::new()));
    let finding = &files[1]["diagnostics"][0];
    assert_eq!(finding["line"], 1, "{stdout}");
    assert_eq!(finding["severity"], "error", "{stdout}");

    let (code, _, stderr) = run(&["check", "no-such.lmp", bad]);
    assert_eq!(
        code, 2,
        "a file that cannot be read is told of, and the other is checked"
    );
    assert!(
        stderr.contains("no-such.lmp") && stderr.contains("nobody"),
        "{stderr}"
    );
}

/// Runs a command whose standard output nobody reads.
fn unread(arguments: &[&str]) -> (i32, String, String) {
    let mut child = lmrun()
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lmrun starts");
    drop(child.stdout.take());
    said(&child.wait_with_output().expect("it ends"))
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    smollm2();
    for arguments in [
        &["check", "--json", "examples/hello.lmp"][..],
        &["models", "list"],
        &["run", "examples/hello.lmp"],
        &["run", "--stream=ndjson", "examples/interview.lmp"],
    ] {
        assert_eq!(
            unread(arguments),
            (0, String::new(), String::new()),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_argument_can_come_from_a_file() {
    let path = folder("argument-files").join("name.txt");
    fs::write(&path, "Ada").expect("written");
    let source = b"input who: string\ninput n: int = 1\nreturn \"${who} ${n}\"\n";
    let argument = format!("who=@{}", path.display());
    let (code, stdout, stderr) = run_source(
        source,
        &[
            "--arg-json",
            "{\"n\": 2, \"who\": \"x\"}",
            "--arg",
            &argument,
        ],
    );
    assert_eq!((code, stdout.as_str()), (0, "Ada 2\n"), "{stderr}");
    assert_refused(
        &run_source(source, &["--arg", "who=@no-such"]),
        2,
        &["who", "no-such"],
    );
}

/// Sends a signal to a child of ours.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill starts").success());
}

#[test]
fn an_interrupt_ends_a_run_cleanly() {
    smollm2();
    let mut child = lmrun()
        .args(["run", "-", "--stream=ndjson"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lmrun starts");
    let source = b"loop max 1000 { user \"Tell a long story.\" assistant gen(x) }\n";
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(source)
        .expect("taken");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("it begins").expect("UTF-8");
    signal(&child, "-INT");
    let last = lines.map_while(Result::ok).last().expect("an envelope");
    let (code, _, stderr) = said(&child.wait_with_output().expect("it ends"));
    let envelope: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(
        (code, &envelope["status"]),
        (130, &"interrupted".into()),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
}

#[test]
fn a_server_ends_on_signals() {
    let model = smollm2();
    for (name, code) in [("-TERM", 0), ("-INT", 130)] {
        let mut child = lmrun()
            .args(["serve", "--port", "0", "--model"])
            .arg(&model)
            .stderr(Stdio::piped())
            .spawn()
            .expect("lmrun starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let first = lines.next().expect("it begins").expect("UTF-8");
        assert!(first.contains("http://127.0.0.1:"), "{first}");
        signal(&child, name);
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(code),
            "{rest:?}"
        );
    }
}

#[test]
fn a_taken_port_is_known_before_a_model_is_loaded() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    assert_refused(
        &run(&["serve", "--port", &port, "--model", "none"]),
        6,
        &["listen", &port],
    );
}
