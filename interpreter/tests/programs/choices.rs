//! `select` and healing: which tokens are scored, taken back and kept.

use crate::common::{play, result};
use lmrun_interpreter::{Call, ErrorKind, ScriptBackend};
use serde_json::json;

fn script() -> ScriptBackend {
    ScriptBackend::new()
}

fn continuations(script: &ScriptBackend) -> Vec<String> {
    script
        .calls()
        .into_iter()
        .find_map(|call| match call {
            Call::Score { continuations, .. } => Some(continuations),
            _ => None,
        })
        .unwrap_or_default()
}

#[tokio::test]
async fn shares_and_mass_are_those_of_the_scores() {
    let source = r#"
        user "Mood?"
        assistant select(mood: ["good", "bad"])
        return { mood: mood, scores: scores(mood), mass: mass(mood), logprob: logprob(mood) }
    "#;
    let half = 0.5f32.ln();
    let script = script().weigh("good", half).weigh("bad", half / 0.5);
    let value = result(source, script).await;
    assert_eq!(value["mood"], "good");
    // Probabilities 1/2 and 1/4: shares 2/3 and 1/3, mass 3/4.
    let near = |value: &serde_json::Value, expected: f64| {
        let given = value.as_f64().unwrap();
        assert!((given - expected).abs() < 1e-6, "{given} is not {expected}");
    };
    near(&value["scores"]["good"], 2.0 / 3.0);
    near(&value["scores"]["bad"], 1.0 / 3.0);
    near(&value["mass"], 0.75);
    near(&value["logprob"], f64::from(half));
}

#[tokio::test]
async fn the_end_of_the_turn_is_scored_where_the_choice_ends_it() {
    for (turn, expected) in [
        ("select(a: [\"x\", \"y\"])", ["x<|im_end|>", "y<|im_end|>"]),
        (
            "\"It is ${select(a: [\"x\", \"y\"])}\"",
            ["x<|im_end|>", "y<|im_end|>"],
        ),
        (
            "{ select(a: [\"x\", \"y\"]) }",
            ["x<|im_end|>", "y<|im_end|>"],
        ),
        ("{ select(a: [\"x\", \"y\"]) \".\" }", ["x", "y"]),
        ("\"It is ${select(a: [\"x\", \"y\"])}.\"", ["x", "y"]),
    ] {
        let (_, script) = play(&format!("user \"?\"\nassistant {turn}"), script()).await;
        assert_eq!(continuations(&script), expected, "{turn}");
    }
}

#[tokio::test]
async fn the_end_of_the_turn_is_not_kept() {
    let source = "user \"?\"\nassistant select(a: [\"x\", \"y\"])\nuser \"!\"\nassistant gen(b)";
    let (_, script) = play(source, script().say("b", ["z"])).await;
    assert!(
        crate::common::prompts(&script)[0].contains("assistant\nx<|im_end|>\n<|im_start|>user\n!")
    );
}

#[tokio::test]
async fn methods_differ_as_they_say() {
    // "aaaa" is less probable as a whole, more probable by the token; four tokens and the end of the turn, and two.
    let weighed = || script().weigh("aaaa", -5.0).weigh("b", -3.0);
    let source = |method: &str| {
        format!("user \"?\"\nassistant select(a: [\"aaaa\", \"b\"], method=\"{method}\")\nreturn a")
    };
    assert_eq!(result(&source("sum"), weighed()).await, json!("b"));
    assert_eq!(result(&source("mean"), weighed()).await, json!("aaaa"));
    // Token by token, -1 goes before -1.5.
    assert_eq!(result(&source("greedy"), weighed()).await, json!("aaaa"));
}

#[tokio::test]
async fn options_are_checked() {
    for (options, words) in [
        ("[x for x in [1] if false]", "given 0"),
        ("[\"a\", \"${\"a\"}\"]", "given twice"),
        ("[trim(\" \"), \"a\"]", "empty"),
    ] {
        let (envelope, _) = play(
            &format!("user \"?\"\nassistant select(a: {options})"),
            script(),
        )
        .await;
        let error = envelope.error.unwrap();
        assert_eq!(error.kind, ErrorKind::Value, "{options}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn healing_gives_back_a_token_that_could_go_on() {
    let words = &[" ", " world", "Hello", "is", "é"];
    for (turn, prompt_end, healed, text) in [
        ("{ \"Hello \" gen(a) }", "assistant\nHello", " ", "world"),
        (
            "{ \"Hello \" gen(a, heal=\"off\") }",
            "assistant\nHello ",
            "",
            "world",
        ),
        // No token goes on from "is", and the template's own text is never given back.
        (
            "{ \"Hello is\" gen(a) }",
            "assistant\nHello is",
            "",
            "world",
        ),
        ("gen(a)", "assistant\n", "", "world"),
        // What could be part of a stop stays where it is.
        (
            "{ \"Hello \" gen(a, stop=[\" \"]) }",
            "assistant\nHello ",
            "",
            "world",
        ),
    ] {
        let backend = script().with_words(words).say("a", [text]);
        let (envelope, script) = play(&format!("user \"?\"\nassistant {turn}"), backend).await;
        assert_eq!(
            envelope.result,
            json!({ "a": text }),
            "{turn}: {:?}",
            envelope.error
        );
        let Some(Call::Generate {
            prompt,
            healed: given,
            ..
        }) = script.calls().pop()
        else {
            panic!()
        };
        assert!(prompt.ends_with(prompt_end), "{turn}: {prompt:?}");
        assert_eq!(given, healed, "{turn}");
    }
}

#[tokio::test]
async fn healed_text_is_neither_lost_nor_told_twice() {
    let source = r#"
        user "?"
        assistant "Hello ${gen(a: /[a-z]+/)} and ${gen(b)}"
    "#;
    let backend = script()
        .with_words(&[" ", " world", " and"])
        .say("a", ["world"])
        .say("b", ["x"]);
    let (envelope, script) = play(source, backend).await;
    assert_eq!(
        envelope.result,
        json!({ "a": "world", "b": "x" }),
        "{:?}",
        envelope.error
    );
    let Some(Call::Generate { prompt, .. }) = script.calls().pop() else {
        panic!()
    };
    assert!(prompt.ends_with("assistant\nHello world and"), "{prompt}");
}

#[tokio::test]
async fn a_choice_is_healed_with_all_its_options() {
    let source = "user \"?\"\nassistant \"Is ${select(a: [\"x\", \"y\"])}\"\nreturn a";
    let backend = script()
        .with_words(&[" ", " x"])
        .weigh("x", -1.0)
        .weigh("y", -2.0);
    let (envelope, script) = play(source, backend).await;
    assert_eq!(envelope.result, json!("x"), "{:?}", envelope.error);
    assert_eq!(continuations(&script), [" x<|im_end|>", " y<|im_end|>"]);
}

#[tokio::test]
async fn a_template_and_its_pieces_are_the_same_tokens() {
    // "ab" is one token: text split over holes and statements must find it all the same.
    let tokens = |turn: &'static str| async move {
        let backend = script().with_words(&["ab"]).say("a", ["x"]);
        let source =
            format!("let b = \"b\"\nuser \"?${{b}}\"\nassistant {{ {turn} gen(a, heal=\"off\") }}");
        let (envelope, script) = play(&source, backend).await;
        assert_eq!(envelope.error, None, "{source}");
        let Some(Call::Generate { tokens, .. }) = script.calls().pop() else {
            panic!()
        };
        tokens
    };
    let whole = tokens("\"xabab\"").await;
    assert_eq!(whole, tokens("\"xa\" \"ba${b}\"").await);
    assert_eq!(whole, tokens("\"x${\"a\"}\" \"b\" \"ab\"").await);
}
