//! `lmrun bench engine`: that every figure asked for comes, in each form, and what is refused.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{folder, lmrun, smollm2};

fn bench(arguments: &[&str]) -> Output {
    let mut command = lmrun();
    command.args(["bench", "engine", "--model"]).arg(smollm2());
    command.args(arguments).output().expect("lmrun starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn keys(object: &Value) -> Vec<&str> {
    let members = object.as_object().expect("an object");
    members.keys().map(String::as_str).collect()
}

#[test]
fn figures_come_as_json_and_as_a_drawing() {
    let svg = folder("bench").join("speed.svg");
    let path = svg.to_str().expect("UTF-8");
    let output = bench(&[
        "--threads=1",
        "--kv-type=int8",
        "--runs=1",
        "--prefill=40,8",
        "--decode=1,3",
        "--context=64",
        "--shared=3:40",
        "--json",
        "--svg",
        path,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(report["threads"], 1);
    assert_eq!(
        (&report["device"], &report["kv_type"]),
        (&json!("cpu"), &json!("int8"))
    );
    assert_eq!(report["quant"], Value::Null);
    assert_eq!(keys(&report["prefill"]), ["8", "40"]);
    assert_eq!(keys(&report["decode"]), ["1", "3"]);
    assert_eq!(keys(&report["context"]), ["64"]);
    assert_eq!(keys(&report["shared"]), ["3:40"]);
    assert_eq!(keys(&report["apart"]), ["3:40"]);
    for kind in ["prefill", "decode", "context", "shared", "apart", "peak"] {
        for (name, figure) in report[kind].as_object().expect("an object") {
            let figure = figure.as_f64().expect("a number");
            assert!(
                figure.is_finite() && figure > 0.0,
                "{kind} {name}: {figure}"
            );
        }
    }
    let svg = fs::read_to_string(svg).expect("a drawing");
    assert_eq!(svg.matches("<circle").count(), 5, "one a figure");
}

#[test]
fn the_table_names_what_was_asked_for_and_nothing_else() {
    let output = bench(&["--threads=1", "--runs=2", "--decode=2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("1 thread") && table.contains("decode of 2 sequences"),
        "{table}"
    );
    assert!(
        !table.contains("prefill") && !table.contains("after"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (arguments, code, named) in [
        (
            vec!["--prefill", "100000"],
            2,
            vec!["--prefill 100000", "100001 tokens", "the model holds"],
        ),
        (vec!["--decode", "0"], 2, vec!["above 0"]),
        (
            vec!["--svg", "/no/such/folder/x.svg"],
            2,
            vec!["/no/such/folder/x.svg"],
        ),
        (vec!["--model", "no-such-model"], 2, vec!["--model"]),
    ] {
        let output = bench(&arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
        for part in named {
            assert!(stderr.contains(part), "`{part}` is missing: {stderr}");
        }
    }
}
