//! Budgets, limits, capabilities, arguments and dry runs: what ends a run before its program does.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{play, play_with, program};
use lmrun_interpreter::{
    Backend, Capabilities, Envelope, ErrorKind, Event, Limits, RunOptions, ScriptBackend, Status,
    parse_argument,
};
use serde_json::{Value, json};

fn script() -> ScriptBackend {
    ScriptBackend::new().say("a", ["hello"])
}

async fn with(source: &str, options: RunOptions) -> Envelope {
    play_with(source, Value::Null, options, &Arc::new(script()))
        .await
        .0
}

fn kind(envelope: &Envelope) -> Option<ErrorKind> {
    envelope.error.as_ref().map(|error| error.kind)
}

#[tokio::test]
async fn the_budget_of_tokens_is_kept() {
    let source = "user \"x\"\nassistant gen(a)";
    for (max_tokens, expected) in [(5, None), (4, Some(ErrorKind::Budget))] {
        let options = RunOptions {
            max_tokens: Some(max_tokens),
            ..RunOptions::default()
        };
        let envelope = with(source, options).await;
        assert_eq!(kind(&envelope), expected, "{max_tokens}");
        assert_eq!(envelope.exit_code(), if expected.is_some() { 5 } else { 0 });
    }
    let own = format!("budget (tokens=4)\n{source}");
    assert_eq!(
        kind(&with(&own, RunOptions::default()).await),
        Some(ErrorKind::Budget)
    );
}

#[tokio::test]
async fn branches_share_the_budget() {
    let source = "user \"x\"\nfork 4 { assistant gen(a) yield a }";
    let options = RunOptions {
        max_tokens: Some(12),
        ..RunOptions::default()
    };
    assert_eq!(kind(&with(source, options).await), Some(ErrorKind::Budget));
}

#[tokio::test]
async fn a_program_may_cut_a_generation_itself() {
    let envelope = with(
        "user \"x\"\nassistant gen(a, max_tokens=2)",
        RunOptions::default(),
    )
    .await;
    assert_eq!(
        envelope.result,
        json!({ "a": "he" }),
        "{:?}",
        envelope.error
    );
    assert_eq!(envelope.gens["a"].finish, "length");
    let envelope = with(
        "user \"x\"\nassistant gen(a, stop=[\"l\", \"o\"])",
        RunOptions::default(),
    )
    .await;
    assert_eq!(envelope.result, json!({ "a": "he" }));
    assert_eq!(envelope.gens["a"].finish, "stop");
}

#[tokio::test(start_paused = true)]
async fn time_is_kept() {
    let source = "budget (time=2s)\nuser \"x\"\nassistant gen(a)";
    let slow = script().with_delay(Duration::from_secs(3));
    let (envelope, script) = play(source, slow).await;
    assert_eq!(kind(&envelope), Some(ErrorKind::Timeout));
    assert_eq!((envelope.exit_code(), script.n_cancelled()), (5, 1));
}

#[tokio::test]
async fn a_run_that_only_computes_ends() {
    let steps = Limits {
        steps: 10_000,
        ..Limits::default()
    };
    let options = RunOptions {
        limits: steps,
        ..RunOptions::default()
    };
    let source = "var n = 0\nloop max 1000000 { n += 1 }\nreturn n";
    assert_eq!(kind(&with(source, options).await), Some(ErrorKind::Budget));
}

#[tokio::test]
async fn time_passes_for_a_run_that_only_computes() {
    let options = RunOptions {
        timeout: Some(Duration::from_millis(30)),
        limits: Limits {
            steps: u64::MAX,
            ..Limits::default()
        },
        ..RunOptions::default()
    };
    let source = "var n = 0\nloop max 1000000 { loop max 1000000 { n += 1 } }\nreturn n";
    assert_eq!(kind(&with(source, options).await), Some(ErrorKind::Timeout));
}

#[tokio::test]
async fn recursion_ends() {
    let source = "fn f(n: int) -> int { return f(n + 1) }\nreturn f(0)";
    let envelope = with(source, RunOptions::default()).await;
    let error = envelope.error.unwrap();
    assert_eq!(error.kind, ErrorKind::Budget);
    assert!(error.message.contains("64"), "{error}");
}

#[tokio::test]
async fn deep_nesting_in_calls_ends_before_the_stack_does() {
    // Each call stands inside as many brackets as the parser takes, so that nesting and calls multiply.
    let brackets = 30;
    let source = format!(
        "fn f(n: int) -> int {{ return {}f(n + 1){} }}\nreturn f(0)",
        "(1 + ".repeat(brackets),
        ")".repeat(brackets)
    );
    assert_eq!(
        kind(&with(&source, RunOptions::default()).await),
        Some(ErrorKind::Budget)
    );
}

#[tokio::test]
async fn recursion_through_every_construct_ends_before_the_stack_does() {
    let source = r#"
        part p(n: int) { user "${f(n)}" }
        fn f(n: int) -> int {
            attempt 2 {
                for x in [1] {
                    if true {
                        match n {
                            -1 => { return 0 }
                            else => {
                                user "x"
                                best 1 by 1 with (timeout=10s) {
                                    let deep = fork 1 with (timeout=10s) { yield [f(n + 1) for y in [1]] }
                                    user "${deep}"
                                    p(n + 1)
                                }
                            }
                        }
                    }
                }
            }
            return 0
        }
        return f(0)
    "#;
    assert_eq!(
        kind(&with(source, RunOptions::default()).await),
        Some(ErrorKind::Budget)
    );
}

#[tokio::test]
async fn values_cannot_grow_without_end() {
    for source in [
        "var s = \"0123456789\"\nloop max 60 { s = s + s }\nreturn 1",
        "var s = \"0123456789\"\nloop max 60 { s = \"${s}${s}\" }\nreturn 1",
        "var s = [1]\nloop max 60 { s = s + s }\nreturn 1",
        "var s: json = [1]\nloop max 60 { s = [s, s] }\nreturn 1",
        "var s: json = [1]\nloop max 10000 { s = [s] }\nreturn 1",
    ] {
        assert_eq!(
            kind(&with(source, RunOptions::default()).await),
            Some(ErrorKind::Budget),
            "{source}"
        );
    }
}

#[tokio::test]
async fn what_a_backend_lacks_is_refused_before_the_run() {
    let can = Capabilities {
        constraints: true,
        logprobs: true,
        chat: true,
        context_length: 4096,
    };
    for (source, can) in [
        (
            "user \"x\"\nassistant gen(a)",
            Capabilities { chat: false, ..can },
        ),
        (
            "user \"x\"\nassistant gen(a: int)",
            Capabilities {
                constraints: false,
                ..can
            },
        ),
        (
            "user \"x\"\nassistant select(a: [\"x\", \"y\"])",
            Capabilities {
                logprobs: false,
                ..can
            },
        ),
    ] {
        let (envelope, script) = play(source, script().with_capabilities(can)).await;
        assert_eq!(kind(&envelope), Some(ErrorKind::Capability), "{source}");
        assert_eq!((envelope.exit_code(), script.calls().len()), (4, 0));
        assert!(envelope.error.unwrap().line > 0);
    }
}

#[tokio::test]
async fn a_context_that_is_full_says_so() {
    let can = Capabilities {
        constraints: true,
        logprobs: true,
        chat: true,
        context_length: 20,
    };
    let source = "user \"0123456789\"\nassistant gen(a)";
    let (envelope, _) = play(source, script().with_capabilities(can)).await;
    let error = envelope.error.unwrap();
    assert!(error.message.contains("limit is 20"), "{error}");
}

#[tokio::test]
async fn arguments_are_checked_against_the_inputs() {
    let source = r#"
        type Point { x: int(0..9) y: int(0..9) }
        input who: string(1..5) = "Ada"
        input at: Point[]
        return "${who} ${at}"
    "#;
    let good = json!({ "at": [{ "x": 1, "y": 2 }] });
    let options = RunOptions::default;
    let (envelope, _) = play_with(source, good, options(), &Arc::new(script())).await;
    assert_eq!(
        envelope.result,
        json!(r#"Ada [{"x":1,"y":2}]"#),
        "{:?}",
        envelope.error
    );
    for (given, words) in [
        (json!({}), "`at` (Point[]) was given no value"),
        (
            json!({ "at": [], "who": "abcdef" }),
            "string(1..5), given a string of 6 characters",
        ),
        (
            json!({ "at": [{ "x": 1, "y": 10 }] }),
            "`at[0].y` must be int(0..9), given an int 10",
        ),
        (
            json!({ "at": [{ "x": 1 }] }),
            "with the field `y`, given a map with x",
        ),
        (
            json!({ "at": [], "wo": 1 }),
            "no input `wo`; its inputs are `who`, `at`",
        ),
    ] {
        let (envelope, _) = play_with(source, given, options(), &Arc::new(script())).await;
        assert_eq!(
            (kind(&envelope), envelope.exit_code()),
            (Some(ErrorKind::Arguments), 2)
        );
        let message = envelope.error.unwrap().message;
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn arguments_of_text_are_read_by_their_type() {
    let program = program(
        r#"
        input s: string
        input n: int
        input xs: string[]
        input m: "a" | "b"
        input u: int | string
        return [s, n, xs, m, u]
    "#,
    );
    let read = |name, text| parse_argument(&program, name, text);
    assert_eq!(read("s", "12"), Ok(json!("12")));
    assert_eq!(read("n", "12"), Ok(json!(12)));
    assert_eq!(read("xs", r#"["a"]"#), Ok(json!(["a"])));
    assert_eq!(read("m", "b"), Ok(json!("b")));
    assert_eq!(
        (read("u", "5"), read("u", "x")),
        (Ok(json!(5)), Ok(json!("x")))
    );
    assert!(
        read("n", "x")
            .unwrap_err()
            .to_string()
            .contains("must be int, given a string \"x\"")
    );
    assert!(
        read("m", "c")
            .unwrap_err()
            .to_string()
            .contains(r#""a" | "b""#)
    );
    assert!(read("z", "c").is_err());
}

#[tokio::test]
async fn a_dry_run_shows_every_prompt_and_asks_for_nothing() {
    let source = r#"
        type P { name: string(2..9) age: int(18..99) }
        user "one"
        assistant gen(a)
        user "two"
        assistant gen(p: P)
        user "three"
        assistant select(s: ["x", "y"])
        let f = fork 2 { user "four" assistant gen(b: /[a-z]{3}\d/) yield b }
        return [a, p.age, s, f]
    "#;
    let script = Arc::new(script());
    let options = RunOptions {
        dry_run: true,
        ..RunOptions::default()
    };
    let (envelope, events) = play_with(source, Value::Null, options, &script).await;
    assert_eq!(envelope.status, Status::Ok, "{:?}", envelope.error);
    assert_eq!(script.calls(), []);
    let prompts: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Prompt { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(prompts.len(), 5);
    assert_eq!(
        prompts[0],
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    );
    assert!(prompts[1].contains("assistant\n‹a›<|im_end|>\n<|im_start|>user\ntwo"));
    let result = &envelope.result;
    assert_eq!((&result[0], &result[2]), (&json!("‹a›"), &json!("x")));
    assert!((18..=99).contains(&result[1].as_i64().unwrap()));
    assert_eq!(result[3][0].as_str().unwrap().len(), 4);
}

#[test]
fn backends_are_objects() {
    let _: Arc<dyn Backend> = Arc::new(ScriptBackend::new());
}
