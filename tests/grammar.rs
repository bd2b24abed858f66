//! `lmrun grammar`: what it prints, its exit codes, bad input. On a vocabulary of bytes, so that no model is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{folder, lmrun};

/// A folder with files of these names and texts, and the bytes as a vocabulary.
fn files(name: &str, texts: &[(&str, &str)]) -> PathBuf {
    let folder = folder(name);
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
    let digit = |value: usize| *digits.get(value).unwrap_or(&['+', '/'][value % 2]);
    let bytes: String = (0..256)
        .map(|byte| format!("{}{}== {byte}\n", digit(byte >> 2), digit((byte & 3) << 4)))
        .collect();
    for (name, text) in texts.iter().chain(&[("bytes", bytes.as_str())]) {
        fs::write(folder.join(name), text).expect("the folder is ours");
    }
    folder
}

/// Exit code, standard output, standard error of `lmrun grammar`, run in the folder with its vocabulary of bytes.
fn grammar(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    grammar_with(folder, "bytes", arguments)
}

fn grammar_with(folder: &Path, vocabulary: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = lmrun()
        .current_dir(folder)
        .args(["grammar", "--vocabulary", vocabulary])
        .args(arguments)
        .output()
        .expect("lmrun starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("no signal"),
        text(output.stdout),
        text(output.stderr),
    )
}

fn grammar_json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = grammar(folder, &[arguments, &["--json"]].concat());
    assert_eq!(stdout.lines().count(), 1, "{stdout}{stderr}");
    (code, serde_json::from_str(&stdout).expect(&stdout))
}

#[test]
fn check_says_what_a_schema_costs() {
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}, "pattern": {"type": "string"}},
        "required": ["n"],
    });
    let folder = files("grammar-check", &[("a.json", &schema.to_string())]);
    let (code, checked) = grammar_json(&folder, &["check", "a.json"]);
    assert_eq!((code, &checked["supported"]), (0, &json!(true)));
    // `{"n":0}`, a token a byte; at first only `{` is legal.
    assert_eq!(checked["min_bytes"], json!(7));
    assert_eq!(checked["min_tokens"], json!(7));
    assert_eq!(checked["first_tokens"], json!(1));
    let short: Value =
        serde_json::from_str(checked["short"].as_str().expect("a text")).expect("JSON");
    assert!(short["n"].is_i64(), "{short}");
    assert_eq!(
        checked["keywords"],
        json!({"properties": 1, "required": 1, "type": 3})
    );
    let (code, stdout, _) = grammar(&folder, &["check", "a.json"]);
    assert_eq!(code, 0);
    assert!(
        stdout.contains("properties 1, required 1, type 3"),
        "{stdout}"
    );
}

#[test]
fn check_gives_the_place_of_what_is_not_supported() {
    let folder = files(
        "grammar-refused",
        &[
            ("a.json", r#"{"properties": {"x": {"type": "stsring"}}}"#),
            ("b.regex", "ab(c\n"),
        ],
    );
    let (code, checked) = grammar_json(&folder, &["check", "a.json"]);
    assert_eq!((code, &checked["supported"]), (3, &json!(false)));
    assert_eq!(checked["error"]["pointer"], json!("#/properties/x/type"));
    let (code, _, stderr) = grammar(&folder, &["check", "a.json"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("a.json: #/properties/x/type"), "{stderr}");

    let (code, checked) = grammar_json(&folder, &["check", "b.regex"]);
    assert_eq!(code, 3);
    assert_eq!(checked["error"]["offset"], json!(2));
}

#[test]
fn files_that_cannot_be_used_are_usage_errors() {
    let folder = files(
        "grammar-unusable",
        &[
            ("a.json", "{\n\"type\": \n}"),
            ("a.yaml", "type: string"),
            ("a.txt", "a"),
            ("cut.tiktoken", "QQ== 0\nQ 1\n"),
        ],
    );
    fs::write(folder.join("b.txt"), b"a\n\xff").expect("the folder is ours");
    for (arguments, part) in [
        (["check", "a.json"].as_slice(), "a.json, line 3"),
        (&["check", "a.yaml"], ".json, .regex, .txt, .lark and .gbnf"),
        (&["check", "b.txt"], "b.txt, line 2: not UTF-8"),
        (&["check", "none.json"], "cannot read none.json"),
        (&["check", "."], "ending"),
        (&["sample", "a.txt", "-n", "0"], "above 0"),
        (&["suite"], "FILES"),
        (&["suite", "none.jsonl"], "none.jsonl"),
    ] {
        assert_usage(&grammar(&folder, arguments), part);
    }
    let cut = grammar_with(&folder, "cut.tiktoken", &["check", "a.txt"]);
    assert_usage(&cut, "cut.tiktoken, line 2: `Q` is not base64");
}

fn assert_usage(outcome: &(i32, String, String), part: &str) {
    let (code, stdout, stderr) = outcome;
    assert_eq!((*code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains(part), "`{part}` is missing: {stderr}");
}

#[test]
fn sample_prints_members() {
    let folder = files("grammar-sample", &[("a.regex", "(?:ab){1,3}|[0-9]+x\n")]);
    let pattern = regex::Regex::new("^(?:(?:ab){1,3}|[0-9]+x)$").expect("a regex");
    let sample = |seed: &str| {
        let (code, stdout, stderr) =
            grammar(&folder, &["sample", "a.regex", "-n", "40", "--seed", seed]);
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let members = sample("1");
    assert_eq!(members.lines().count(), 40);
    for member in members.lines() {
        assert!(pattern.is_match(member), "{member}");
        // 60 free tokens and a way out.
        assert!(member.len() <= 61, "{member}");
    }
    assert_eq!(members, sample("1"));
    assert_ne!(members, sample("2"));

    let (code, stdout, _) = grammar(
        &folder,
        &["sample", "a.regex", "--max-tokens", "2", "-n", "9"],
    );
    assert_eq!(code, 0);
    assert!(stdout.lines().all(|member| member.len() == 2), "{stdout}");
    let (code, _, stderr) = grammar(&folder, &["sample", "a.regex", "--max-tokens", "1"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("--max-tokens") && stderr.contains("needs 2"),
        "{stderr}"
    );
}

const GOOD: &str = r#"{"name": "digits", "regex": "[0-9]+", "tests": [{"valid": true, "data": "12"}, {"valid": false, "data": ""}]}

{"name": "object", "schema": {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": false}, "tests": [{"valid": false, "data": {"b": null}}, {"valid": false, "data": {"a": 1}}, {"valid": true, "data": {}}]}
"#;

#[test]
fn suite_counts_and_its_exit_code_says_whether_answers_were_right() {
    let bad = r#"{"name": "wrong on purpose", "regex": "a|b", "tests": [{"valid": false, "data": "b"}]}
{"name": "and this", "regex": "a|b", "tests": [{"valid": true, "data": "ab"}]}
{"name": "no regex", "regex": "(", "tests": []}
"#;
    let folder = files("grammar-suite", &[("good.jsonl", GOOD), ("bad.jsonl", bad)]);
    let counts = |report: &Value| {
        ["schemas", "passed", "over", "under", "refused", "errors"]
            .map(|name| report[name].as_u64().expect("a count"))
    };
    let (code, report) = grammar_json(&folder, &["suite", "good.jsonl"]);
    assert_eq!((code, counts(&report)), (0, [2, 2, 0, 0, 0, 0]));
    let (code, report) = grammar_json(&folder, &["suite", "good.jsonl", "bad.jsonl"]);
    assert_eq!((code, counts(&report)), (1, [5, 2, 1, 1, 1, 0]));
    assert_eq!(report["first"]["under"], json!(["wrong on purpose"]));
    assert_eq!(report["first"]["over"], json!(["and this"]));
    let times = &report["mask_us"];
    let ordered = ["p50", "p95", "p99", "p999", "max"].map(|p| times[p].as_f64().expect("a time"));
    assert!(ordered.is_sorted() && ordered[0] > 0.0, "{times}");

    let (code, stdout, _) = grammar(&folder, &["suite", "bad.jsonl"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("wrong on purpose"), "{stdout}");
}

#[test]
fn suite_names_the_line_that_is_wrong() {
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let deep = format!(r#"{{"name": "deep", "schema": {deep}, "tests": []}}"#);
    for (name, line, part) in [
        ("json", "{", "EOF"),
        ("none", r#"{"name": "a", "tests": []}"#, "one of"),
        (
            "data",
            r#"{"name": "a", "regex": "a", "tests": [{"valid": true, "data": 1}]}"#,
            "string",
        ),
        ("deep", &deep, "recursion limit"),
    ] {
        let text = [GOOD, line].concat();
        let folder = files(&format!("grammar-line-{name}"), &[("a.jsonl", &text)]);
        let (code, stdout, stderr) = grammar(&folder, &["suite", "a.jsonl", "--json"]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(
            stderr.contains("a.jsonl, line 4") && stderr.contains(part),
            "{stderr}"
        );
    }
}

/// A test suite in the official layout, in small, through the converter.
#[test]
fn the_official_test_suite_becomes_lines() {
    let folder = folder("grammar-official");
    let group = json!([{
        "description": "remote",
        "schema": {"$ref": "http://localhost:1234/draft7/name.json"},
        "tests": [
            {"description": "a", "data": 1, "valid": true},
            {"description": "b", "data": "x", "valid": false},
        ],
    }]);
    for (path, value) in [
        ("tests/draft7/ref.json", &group),
        ("remotes/draft7/name.json", &json!({"type": "integer"})),
        ("remotes/draft4/name.json", &json!({"type": "string"})),
        ("remotes/integer.json", &json!({"type": "integer"})),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is ours");
        fs::write(path, value.to_string()).expect("the folder is ours");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/json_schema_suite.py");
    let convert = |extra: &[&str]| -> Vec<Value> {
        let output = Command::new("python3")
            .arg(&script)
            .arg(&folder)
            .arg("draft7")
            .args(extra)
            .output()
            .expect("python3 starts");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        said.lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    };
    let lines = convert(&[]);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["name"], json!("ref/remote"));
    assert_eq!(
        lines[0]["schema"]["$schema"],
        json!("http://json-schema.org/draft-07/schema#")
    );
    assert_eq!(lines[0]["tests"][1], json!({"valid": false, "data": "x"}));
    let documents = lines[0]["documents"].as_object().expect("an object");
    let mut uris: Vec<_> = documents.keys().map(String::as_str).collect();
    uris.sort_unstable();
    assert_eq!(
        uris,
        [
            "http://localhost:1234/draft7/name.json",
            "http://localhost:1234/integer.json"
        ]
    );
    let names: Vec<_> = convert(&["--each-test"])
        .into_iter()
        .map(|line| line["name"].clone())
        .collect();
    assert_eq!(names, [json!("ref/remote/a"), json!("ref/remote/b")]);
}
