//! Reading requests, and prompts that no client's text can steer.

use std::sync::Arc;

use lmrun_engine::Specials;
use lmrun_grammar::{Matcher, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::constraint::{self, Language};
use super::prompt::Marker;
use super::request::ChatRequest;
use super::tools::Choice;

fn parse(extra: &Value) -> ChatRequest {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    ChatRequest::parse(&body).unwrap()
}

#[test]
fn defaults_are_those_of_the_openai_api() {
    let request = parse(&json!({}));
    assert_eq!(request.sampling.temperature, 1.0);
    assert_eq!(request.sampling.top_p, 1.0);
    assert_eq!(request.n_choices, 1);
    assert!(!request.stream && request.format.is_none() && request.n_top_logprobs.is_none());
    assert_ne!(request.sampling.seed, parse(&json!({})).sampling.seed);
}

#[test]
fn fields_that_change_nothing_and_nulls_are_skipped() {
    parse(&json!({
        "user": "u", "metadata": {}, "store": false, "modalities": ["text"], "functions": null,
        "response_format": { "type": "text" }, "stop": null, "temperature": null, "tools": [],
    }));
}

#[test]
fn every_dialect_of_a_format_is_read() {
    let schema = json!({ "type": "integer" });
    for extra in [
        json!({ "response_format": { "type": "json_object", "schema": schema } }),
        json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } }),
        json!({ "structured_outputs": { "json": schema } }),
        json!({ "guided_json": schema }),
        json!({ "json_schema": "{\"type\": \"integer\"}" }),
    ] {
        assert_eq!(
            parse(&extra).format.unwrap().language,
            Language::Json(schema.clone())
        );
    }
    for extra in [
        json!({ "guided_regex": "a+" }),
        json!({ "structured_outputs": { "regex": "a+" } }),
    ] {
        assert_eq!(
            parse(&extra).format.unwrap().language,
            Language::Regex("a+".into())
        );
    }
}

#[test]
fn a_choice_of_tools_needs_tools() {
    assert_eq!(
        parse(&json!({ "tool_choice": "required" })).tool_choice,
        Choice::Never
    );
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    assert_eq!(parse(&json!({ "tools": tools })).tool_choice, Choice::Auto);
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let request = parse(&json!({ "tools": tools, "tool_choice": named }));
    assert_eq!(request.tool_choice, Choice::Named(0));
}

/// Whether a request's constraint admits a text as a whole.
fn admits(request: &Value, text: &str) -> bool {
    let format = parse(request).format.unwrap();
    let constraint = constraint::compile(&format).unwrap();
    let mut tokens: Vec<_> = (0..=255u8).map(|byte| Some([byte].into())).collect();
    tokens.push(None);
    let vocabulary = Arc::new(Vocabulary::new(tokens, vec![256]));
    let mut matcher = Matcher::new(constraint, vocabulary).unwrap();
    text.bytes().all(|byte| matcher.accept(byte.into()).is_ok()) && matcher.is_complete()
}

#[test]
fn grammars_are_read_in_both_dialects() {
    let gbnf = "# a comment: with a colon\nroot ::= \"a\" item\nitem ::= [0-9]+\n";
    let lark = "%ignore \" \"\nstart: \"a\" ITEM // ::= is no rule here\nITEM: /[0-9]+/\n";
    let bodies = |source: &str| {
        [
            json!({ "guided_grammar": source }),
            json!({ "ebnf": source }),
            json!({ "grammar": source }),
            json!({ "structured_outputs": { "grammar": source } }),
        ]
    };
    for body in bodies(gbnf) {
        assert!(admits(&body, "a12") && !admits(&body, "a 12"), "{body}");
    }
    for body in bodies(lark) {
        assert!(admits(&body, "a12") && admits(&body, "a 12"), "{body}");
        assert!(!admits(&body, "12"), "{body}");
    }
}

#[test]
fn structural_tags_are_read_in_both_forms() {
    let schema = json!({ "type": "object", "properties": { "b": { "type": "integer" }, "a": { "type": "null" } },
        "required": ["a", "b"], "additionalProperties": false });
    let structures = json!({ "type": "structural_tag", "triggers": ["<f"],
        "structures": [{ "begin": "<f=x>", "schema": schema, "end": "</f>" }] });
    let content = json!({ "type": "json_schema", "json_schema": schema });
    let triggered = json!({ "type": "structural_tag", "format": { "type": "triggered_tags", "triggers": ["<f"],
        "tags": [{ "begin": "<f=x>", "content": content, "end": "</f>" }], "at_least_one": true } });
    let called = r#"so: <f=x>{"b":1,"a":null}</f> then"#;
    for (format, admits_none) in [(structures, true), (triggered, false)] {
        let text = json!({ "structured_outputs": { "structural_tag": format.to_string() } });
        for body in [json!({ "response_format": format }), text] {
            assert!(admits(&body, called), "{body}");
            assert_eq!(admits(&body, "nothing"), admits_none, "{body}");
            assert!(
                !admits(&body, r#"<f=x>{"a":null,"b":1}</f>"#),
                "keys come as declared"
            );
            assert!(!admits(&body, "<f=y>"), "{body}");
        }
    }
}

/// Any JSON, made of the words that a request may hold more often than not.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "messages",
        "role",
        "user",
        "assistant",
        "content",
        "tools",
        "type",
        "function",
        "name",
        "tool_choice",
        "required",
        "text",
        "response_format",
        "json_schema",
        "schema",
        "stop",
        "tool_calls",
        "arguments",
        "{}",
        "parameters",
        "n",
        "seed",
        "logit_bias",
        "temperature",
        "stream_options",
        "max_tokens",
        "logprobs",
        "structured_outputs",
        "json",
        "é<|x|>",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..8).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

/// Text in which special texts, halves of them and marks are frequent.
fn any_text() -> impl Strategy<Value = String> {
    let bit = prop::sample::select(vec![
        "<|a|>",
        "<|ab|>",
        "<|",
        "|>",
        "a",
        "b",
        "0",
        "\u{F0000}",
        "\u{F0001}",
        "é",
        " ",
        "\n",
        "<",
    ]);
    prop::collection::vec(bit, 0..12).prop_map(|bits| bits.concat())
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in any_json()) {
        let _ = ChatRequest::parse(&body);
        let _ = ChatRequest::parse(&json!({
            "messages": body, "tools": body, "tool_choice": body, "response_format": body,
        }));
        let _ = ChatRequest::parse(&json!({ "messages": [body] }));
    }

    #[test]
    fn special_texts_of_a_client_stay_text(contents in prop::collection::vec(any_text(), 1..4)) {
        let specials = ["<|ab|>".to_owned(), "<|a|>".to_owned()];
        let mut value = json!(contents);
        let marker = Marker::new(&specials, &value.to_string()).unwrap();
        marker.mark_value(&mut value);
        let marked = value.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        let rendered: String = marked.map(|text| format!("<|a|>{text}<|ab|>")).collect();
        let expected: String = contents.iter().map(|text| format!("<|a|>{text}<|ab|>")).collect();
        let segments = marker.segments(&rendered);
        let whole: String = segments.iter().map(|(_, text)| text.as_str()).collect();
        prop_assert_eq!(whole, expected);
        let n_control: usize = segments
            .iter()
            .filter(|(kind, _)| *kind == Specials::Parse)
            .map(|(_, text)| text.matches("<|a|>").count() + text.matches("<|ab|>").count())
            .sum();
        prop_assert_eq!(n_control, 2 * contents.len());
    }
}
