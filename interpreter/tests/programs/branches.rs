//! Forks, best-of-n and comprehensions, played by scripts.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{play, play_with, prompts, result};
use lmrun_interpreter::{Call, Cancel, ErrorKind, Event, RunOptions, ScriptBackend, Status};
use serde_json::{Value, json};

fn script() -> ScriptBackend {
    ScriptBackend::new()
}

#[tokio::test]
async fn a_fork_yields_in_order_and_leaves_the_context_alone() {
    let source = r#"
        system "Judge."
        let notes = fork d in ["cost", "risk"] {
            user "Judge ${d}"
            assistant gen(score: int(1..5))
            yield { d: d, score: score }
        }
        user "Sum up"
        assistant gen(end)
        return notes
    "#;
    let script = script()
        .answer("score", |prompt| {
            if prompt.contains("risk") { "5" } else { "2" }.to_owned()
        })
        .say("end", ["done"]);
    let (envelope, script) = play(source, script).await;
    assert_eq!(
        envelope.result,
        json!([{ "d": "cost", "score": 2 }, { "d": "risk", "score": 5 }]),
        "{:?}",
        envelope.error
    );
    let last = prompts(&script).pop().unwrap();
    assert_eq!(
        last,
        "<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\nSum up<|im_end|>\n<|im_start|>assistant\n"
    );
    assert!(envelope.gens.contains_key("0.0/score") && envelope.gens.contains_key("0.1/score"));
}

#[tokio::test]
async fn the_shared_prefix_is_published_before_the_branches() {
    let source = r#"
        user "Shared"
        fork 3 { assistant gen(a) yield a }
    "#;
    let (_, script) = play(source, script().say("a", ["x"])).await;
    let calls = script.calls();
    assert!(
        matches!(&calls[0], Call::Publish { prompt, .. } if prompt == "<|im_start|>user\nShared"),
        "{calls:?}"
    );
    assert_eq!(calls.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn branches_overlap_up_to_the_limit() {
    let source = r#"
        user "x"
        return len(fork n in range(9) with (limit=3) { assistant gen(a) yield a })
    "#;
    let started = tokio::time::Instant::now();
    let script = script().say("a", ["x"]).with_delay(Duration::from_secs(1));
    let (envelope, script) = play(source, script).await;
    assert_eq!(envelope.result, json!(9), "{:?}", envelope.error);
    assert_eq!(script.most_open(), 3);
    // One second to publish, then three rounds of three.
    assert_eq!(started.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_branch_cancels_its_siblings() {
    let source = r#"
        user "x"
        fork n in range(4) {
            if n == 2 { fail "no" }
            assistant gen(a)
            yield a
        }
    "#;
    let script = script().say("a", ["x"]).with_delay(Duration::from_secs(1));
    let (envelope, script) = play(source, script).await;
    let error = envelope.error.expect("the third branch fails");
    assert_eq!(
        (error.kind, error.branch.as_deref()),
        (ErrorKind::Fail, Some("0.2"))
    );
    let n_answered = script.calls().len() - script.n_cancelled();
    assert_eq!(n_answered, 1, "only the shared prefix was ever computed");
}

#[tokio::test]
async fn forgiven_branches_are_null() {
    let source = r#"
        user "x"
        return fork n in range(3) with (on_error="null") {
            if n == 1 { fail "no" }
            yield n
        }
    "#;
    assert_eq!(result(source, script()).await, json!([0, null, 2]));
}

#[tokio::test(start_paused = true)]
async fn first_keeps_the_fastest_and_drops_the_rest() {
    let source = r#"
        user "x"
        return fork s in ["slow", "fast"] with (first=1) {
            user s
            if s == "slow" { assistant gen(a) }
            assistant gen(b)
            yield s
        }
    "#;
    let script = script()
        .say("a", ["x"])
        .say("b", ["y"])
        .with_delay(Duration::from_secs(1));
    let (envelope, script) = play(source, script).await;
    assert_eq!(envelope.result, json!(["fast"]), "{:?}", envelope.error);
    let n_late = prompts(&script)
        .iter()
        .filter(|prompt| prompt.contains("assistant\nx"))
        .count();
    assert_eq!(
        n_late, 0,
        "the slow branch was dropped between its generations"
    );
}

#[tokio::test(start_paused = true)]
async fn a_branch_has_its_own_time() {
    let source = r#"
        user "x"
        return fork n in range(2) with (timeout=500ms, on_error="null") {
            if n == 1 { assistant gen(a) }
            yield n
        }
    "#;
    let script = script().say("a", ["x"]).with_delay(Duration::from_secs(1));
    let (envelope, _) = play(source, script).await;
    assert_eq!(envelope.result, json!([0, null]), "{:?}", envelope.error);
}

#[tokio::test]
async fn names_of_a_branch_stay_in_it() {
    let source = r#"
        var n = 1
        let found = fork x in [1, 2] { var n2 = n + x n2 += 10 yield n2 }
        n += 1
        return [n, found]
    "#;
    assert_eq!(result(source, script()).await, json!([2, [12, 13]]));
}

#[tokio::test]
async fn best_goes_on_in_the_winners_context_and_names() {
    let source = r#"
        user "Slogan"
        best 3 by len(slogan) { assistant gen(slogan) }
        user "Why?"
        assistant gen(why)
    "#;
    let script = script()
        .say("0.0/slogan", ["aa"])
        .say("0.1/slogan", ["aaaa"])
        .say("0.2/slogan", ["a"])
        .say("why", ["so"]);
    let (envelope, script) = play(source, script).await;
    assert_eq!(
        envelope.result,
        json!({ "slogan": "aaaa", "why": "so" }),
        "{:?}",
        envelope.error
    );
    assert!(
        prompts(&script)
            .pop()
            .unwrap()
            .contains("assistant\naaaa<|im_end|>")
    );
    assert_eq!(envelope.gens["slogan"].text, "aaaa");
}

#[tokio::test]
async fn a_function_in_a_comprehension_runs_side_by_side() {
    let source = r#"
        fn f(x: int) -> int { user "x${x}" assistant gen(y: int) return y + x }
        return [f(x) for x in range(4) if x != 2]
    "#;
    let (envelope, script) = play(source, script().say("y", ["10"])).await;
    assert_eq!(envelope.result, json!([10, 11, 13]), "{:?}", envelope.error);
    assert!(script.most_open() >= 1);
    assert!(
        !script
            .calls()
            .iter()
            .any(|call| matches!(call, Call::Publish { .. }))
    );
}

fn seeds(script: &ScriptBackend) -> Vec<(String, u64)> {
    let mut seeds: Vec<(String, u64)> = script
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Generate {
                branch, sampling, ..
            } => Some((branch, sampling.seed)),
            _ => None,
        })
        .collect();
    seeds.sort();
    seeds
}

const MANY_SEEDS: &str = r#"
    user "x"
    assistant gen(a)
    let b = fork n in range(5) { user "y" assistant gen(c) assistant gen(d) yield c }
    user "z"
    assistant gen(e)
"#;

async fn seeds_of(seed: Option<u64>) -> (Vec<(String, u64)>, u64) {
    let script = ["a", "c", "d", "e"]
        .into_iter()
        .fold(script(), |script, name| script.say(name, ["x"]));
    let script = Arc::new(script);
    let options = RunOptions {
        seed,
        ..RunOptions::default()
    };
    let (envelope, _) = play_with(MANY_SEEDS, Value::Null, options, &script).await;
    assert_eq!(envelope.error, None);
    (seeds(&script), envelope.seed)
}

#[tokio::test]
async fn seeds_depend_on_the_runs_seed_and_the_place_alone() {
    let (first, told) = seeds_of(Some(7)).await;
    assert_eq!(told, 7);
    assert_eq!(first, seeds_of(Some(7)).await.0);
    let distinct: std::collections::HashSet<u64> = first.iter().map(|&(_, seed)| seed).collect();
    assert_eq!(distinct.len(), 12, "every generation has a seed of its own");
    assert_ne!(first, seeds_of(Some(8)).await.0);
    let (drawn, told) = seeds_of(None).await;
    assert_eq!(drawn, seeds_of(Some(told)).await.0, "a drawn seed is told");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_drops_its_requests() {
    let source = "user \"x\"\nfork 4 { assistant gen(a) yield a }";
    let script = Arc::new(script().say("a", ["x"]).with_delay(Duration::from_secs(5)));
    let run = play_with(source, Value::Null, RunOptions::default(), &script);
    let dropped = tokio::time::timeout(Duration::from_secs(7), run).await;
    assert!(dropped.is_err());
    assert_eq!(script.n_cancelled(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_thrown_switch_ends_a_run() {
    let source = "user \"x\"\nassistant gen(a)";
    let script = Arc::new(script().say("a", ["x"]).with_delay(Duration::from_secs(60)));
    let (sender, _events) = tokio::sync::mpsc::unbounded_channel();
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let backend: Arc<dyn lmrun_interpreter::Backend> = script.clone();
    let program = crate::common::program(source);
    // A run is a future that any runtime can move between threads.
    let run = tokio::spawn(lmrun_interpreter::run(
        program,
        crate::common::arguments(&Value::Null),
        RunOptions::default(),
        backend,
        sender,
        cancel,
    ));
    tokio::time::sleep(Duration::from_secs(1)).await;
    switch.cancel();
    let envelope = run.await.expect("a run does not panic");
    assert_eq!(
        (envelope.status, envelope.exit_code()),
        (Status::Interrupted, 130)
    );
    assert_eq!(script.n_cancelled(), 1);
}

#[tokio::test]
async fn events_carry_branch_and_place() {
    let source = "user \"x\"\nlet a = fork 2 { assistant gen(y) yield y }\nreturn a";
    let script = Arc::new(script().say("y", ["hé"]));
    let (_, events) = play_with(source, Value::Null, RunOptions::default(), &script).await;
    let at = source.find("gen(y)").unwrap();
    let texts: String = events
        .iter()
        .filter_map(|event| match event {
            Event::Text {
                branch, span, text, ..
            } if branch == "0.1" => {
                assert_eq!((span.0.start, span.0.end), (at, at + 6));
                Some(text.as_str())
            }
            _ => None,
        })
        .collect();
    assert_eq!(texts, "hé");
    let tags: Vec<String> = events
        .iter()
        .map(|event| {
            serde_json::to_value(event).unwrap()["event"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(tags.first().map(String::as_str), Some("fork"));
    assert_eq!(tags.iter().filter(|tag| *tag == "gen_end").count(), 2);
    assert_eq!(tags[tags.len() - 2..], ["join", "result"]);
}
