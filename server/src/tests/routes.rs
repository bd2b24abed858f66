//! Everything around the completions: errors, the key, limits, models, health and metrics.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::script::Script::{Fail, Say};
use super::{Bench, post, text};
use crate::ServerOptions;
use crate::state::Phase;

const CHAT: &str = "/v1/chat/completions";

/// A request that says hi and something wrong.
fn hi_and(name: &str, value: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    body[name] = value;
    body
}

/// Every one of the requests is a 400 about the field beside it, and never reaches the engine.
async fn assert_refused(cases: Vec<(Value, &str)>) {
    for (body, param) in cases {
        let bench = Bench::new(vec![Say("not reached")]);
        let (status, answer) = bench.post(CHAT, &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(answer["error"]["param"], param, "{body}: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert_eq!(bench.model.n_requests(), 0);
    }
}

#[tokio::test]
async fn wrong_messages_are_refused_with_their_place() {
    let image = json!([{ "role": "user", "content": [{ "type": "image_url" }] }]);
    let function = json!({ "name": "f", "arguments": "{" });
    let call = json!([{ "id": "a", "type": "function", "function": function }]);
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    assert_refused(vec![
        (json!([]), "body"),
        (json!({}), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": "hi" }), "messages"),
        (
            json!({ "messages": [{ "content": "hi" }] }),
            "messages[0].role",
        ),
        (
            json!({ "messages": [{ "role": "function", "content": "hi" }] }),
            "messages[0].role",
        ),
        (user(json!(3)), "messages[0].content"),
        (user(json!("raise")), "messages"),
        (json!({ "messages": image }), "messages[0].content[0].type"),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": call }] }),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_options_are_refused_with_their_name() {
    assert_refused(vec![
        (hi_and("temperature", json!(2.1)), "temperature"),
        (hi_and("temperature", json!("1")), "temperature"),
        (hi_and("top_p", json!(-0.1)), "top_p"),
        (hi_and("n", json!(9)), "n"),
        (hi_and("n", json!(1.5)), "n"),
        (hi_and("stop", json!(["a", "b", "c", "d", "e"])), "stop"),
        (hi_and("stop", json!("")), "stop"),
        (hi_and("max_tokens", json!(0)), "max_tokens"),
        (hi_and("max_tokens", json!(1_000_000)), "max_tokens"),
        (hi_and("top_logprobs", json!(3)), "top_logprobs"),
        (hi_and("logit_bias", json!({ "x": 1 })), "logit_bias.x"),
        (hi_and("logit_bias", json!({ "258": 1 })), "logit_bias.258"),
        (
            hi_and("stream_options", json!({ "include_usage": true })),
            "stream_options",
        ),
        (hi_and("functions", json!([])), "functions"),
        (hi_and("modalities", json!(["audio"])), "modalities"),
        (hi_and("tempreature", json!(1)), "tempreature"),
    ])
    .await;
}

#[tokio::test]
async fn wrong_tools_and_formats_are_refused_with_their_place() {
    let mut unknown_tool = hi_and(
        "tools",
        json!([{ "type": "function", "function": { "name": "g" } }]),
    );
    unknown_tool["tool_choice"] = json!({ "type": "function", "function": { "name": "f" } });
    let mut two = hi_and("guided_regex", json!("a"));
    two["response_format"] = json!({ "type": "json_object" });
    let schema = json!({ "type": "object", "properties": { "b": { "type": "strin" } } });
    let unsupported =
        json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let function = json!({ "name": "f", "parameters": schema });
    let tag = json!({ "type": "structural_tag", "triggers": ["<a"],
        "structures": [{ "begin": "<a>", "schema": { "type": "strin" }, "end": "" }] });
    assert_refused(vec![
        (
            hi_and("tools", json!([{ "type": "web_search" }])),
            "tools[0].type",
        ),
        (
            hi_and(
                "tools",
                json!([{ "type": "function", "function": function }]),
            ),
            "tools[0].function.parameters#/properties/b/type",
        ),
        (unknown_tool, "tool_choice.function.name"),
        (two, "guided_regex"),
        (hi_and("ebnf", json!("root ::= b")), "ebnf"),
        (
            hi_and("guided_grammar", json!("start: b\n")),
            "guided_grammar",
        ),
        (
            hi_and("response_format", tag),
            "response_format.structures[0].schema#/type",
        ),
        (
            hi_and(
                "structured_outputs",
                json!({ "structural_tag": { "format": { "type": "sequence" } } }),
            ),
            "structured_outputs.structural_tag.format.type",
        ),
        (hi_and("guided_regex", json!("(")), "guided_regex"),
        (
            hi_and("response_format", json!({ "type": "xml" })),
            "response_format.type",
        ),
        (
            hi_and("response_format", unsupported),
            "response_format.json_schema.schema#/properties/b/type",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused() {
    let bench = Bench::new(vec![]);
    let body = json!({ "messages": [{ "role": "user", "content": "x".repeat(5000) }] });
    let (status, answer) = bench.post(CHAT, &body).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
}

#[tokio::test]
async fn routes_and_methods_that_do_not_exist_are_json_errors() {
    let bench = Bench::new(vec![]);
    let (status, answer) = bench.post("/v1/responses", &json!({})).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (404, &json!("unknown_url"))
    );
    let (status, answer) = bench.get(CHAT).await;
    assert_eq!(status, 405);
    assert!(answer.contains("\"error\""), "{answer}");
}

#[tokio::test]
async fn what_compiles_too_long_is_refused() {
    let options = ServerOptions {
        compile_timeout: Duration::ZERO,
        ..ServerOptions::default()
    };
    let bench = Bench::with_options(vec![], options);
    let (status, answer) = bench
        .post(CHAT, &hi_and("guided_regex", json!("(?:[^a]{60}){60}")))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (400, &json!("constraint_invalid")),
        "{answer}"
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("0 ms"),
        "{answer}"
    );
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let options = ServerOptions {
        max_body_bytes: 1000,
        ..ServerOptions::default()
    };
    let bench = Bench::with_options(vec![], options);
    let deep = "[".repeat(400) + &"]".repeat(400);
    for (body, status) in [("x".repeat(1001), 413), ("{".to_owned(), 400), (deep, 400)] {
        let (got, answer) = text(bench.send(post(CHAT, body)).await).await;
        assert_eq!(got, status, "{answer}");
        assert!(serde_json::from_str::<Value>(&answer).unwrap()["error"].is_object());
    }
    let plain = Request::post(CHAT)
        .header("content-type", "text/plain")
        .body(Body::from("{}"));
    assert_eq!(bench.send(plain.unwrap()).await.status(), 415);
}

#[tokio::test]
async fn the_key_guards_every_route_but_health() {
    let options = ServerOptions {
        api_key: Some("secret".into()),
        ..ServerOptions::default()
    };
    let bench = Bench::with_options(vec![], options);
    for path in ["/v1/models", "/metrics", "/ready", "/nowhere"] {
        assert_eq!(bench.get(path).await.0, 401, "{path}");
    }
    assert_eq!(bench.get("/health").await.0, 200);
    for (key, status) in [
        ("Bearer secret", 200),
        ("Bearer secreT", 401),
        ("secret", 401),
    ] {
        let request = Request::get("/v1/models").header("authorization", key);
        let response = bench.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{key}");
    }
}

#[tokio::test]
async fn the_one_model_is_listed_and_others_are_not_found() {
    let bench = Bench::new(vec![]);
    let (_, list) = bench.get("/v1/models").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["data"][0]["id"], "m");
    assert_eq!(bench.get("/v1/models/m").await.0, 200);
    let (status, answer) = bench.get("/v1/models/some/other").await;
    assert_eq!(status, 404);
    assert!(answer.contains("model_not_found"));
    let body = json!({ "model": "other", "messages": [{ "role": "user", "content": "hi" }] });
    let (status, answer) = bench.post(CHAT, &body).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[tokio::test]
async fn readiness_is_a_token_and_is_remembered() {
    let bench = Bench::new(vec![Say("x")]);
    assert_eq!(bench.get("/ready").await.0, 200);
    assert_eq!(bench.get("/ready").await.0, 200);
    assert_eq!(bench.model.n_requests(), 1);
    let bench = Bench::new(vec![Fail(lmrun_engine::RequestError::Internal)]);
    assert_eq!(bench.get("/ready").await.0, 503);
}

#[tokio::test]
async fn metrics_hold_the_engines_pages_and_the_answered_requests() {
    let bench = Bench::new(vec![]);
    bench.get("/nowhere").await;
    let (status, metrics) = bench.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "lmrun_kv_pages_free 3",
        "lmrun_kv_pages_cached 4",
        "lmrun_kv_pages_held 0",
        "lmrun_kv_pages 7",
        "lmrun_generated_tokens_total 0",
        "lmrun_http_requests_total{route=\"none\",status=\"404\"} 1",
    ] {
        assert!(
            metrics.lines().any(|have| have == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[tokio::test]
async fn a_draining_server_takes_no_new_work() {
    let bench = Bench::new(vec![]);
    bench.app.enter(Phase::Draining);
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    let (status, answer) = bench.post(CHAT, &body).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (503, &json!("shutting_down"))
    );
    assert_eq!(bench.get("/health").await.0, 200);
}

#[tokio::test]
async fn a_program_is_checked_before_it_runs() {
    let bench = Bench::new(vec![]);
    let source = json!({ "source": "user \"${nobody}\"" });
    let (status, checked) = bench.post("/v1/programs/check", &source).await;
    assert_eq!((status.as_u16(), &checked["ok"]), (200, &json!(false)));
    let code = checked["diagnostics"][0]["code"].as_str().unwrap();
    assert!(code.starts_with('E'), "{checked}");
    let (status, refused) = bench.post("/v1/programs", &source).await;
    assert_eq!(
        (status.as_u16(), &refused["error"]["code"]),
        (400, &json!("program_invalid"))
    );
    assert_eq!(refused["diagnostics"], checked["diagnostics"]);
}

const HELLO: &str = "input n: int(1..9)\nuser \"hi ${n}\"\nassistant gen(x)\nreturn { n: n, x: x }";

#[tokio::test]
async fn a_program_is_an_envelope_or_events_and_then_the_envelope() {
    let bench = Bench::new(vec![]);
    let mut body = json!({ "source": HELLO, "args": { "n": 3 }, "seed": 4 });
    let (status, envelope) = bench.post("/v1/programs", &body).await;
    assert_eq!(status, 200, "{envelope}");
    assert_eq!(envelope["status"], "ok", "{envelope}");
    assert_eq!(envelope["result"], json!({ "n": 3, "x": "scripted" }));
    assert_eq!(envelope["seed"], 4);

    body["stream"] = json!(true);
    let (status, events) = text(bench.send(post("/v1/programs", body.to_string())).await).await;
    assert_eq!(status, 200);
    let events: Vec<&str> = events.trim_end().split("\n\n").collect();
    for (idx, event) in events.iter().enumerate() {
        assert!(event.contains(&format!("id: {idx}\n")), "{event}");
    }
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("event: text\n")),
        "{events:?}"
    );
    let (last, rest) = events.split_last().unwrap();
    assert!(last.starts_with("event: envelope\n"), "{last}");
    assert!(
        rest.iter()
            .all(|event| !event.starts_with("event: envelope\n"))
    );
    let data = last.split_once("data: ").unwrap().1;
    let streamed: Value = serde_json::from_str(data).unwrap();
    assert_eq!(streamed["result"], envelope["result"]);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_a_wrong_request() {
    let bench = Bench::new(vec![]);
    for args in [json!({ "n": 10 }), json!({}), json!({ "n": 1, "m": 1 })] {
        let body = json!({ "source": HELLO, "args": args });
        let (status, answer) = bench.post("/v1/programs", &body).await;
        assert_eq!(
            (status.as_u16(), &answer["error"]["param"]),
            (400, &json!("args")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_programs_request_is_bounded() {
    let options = ServerOptions {
        max_programs: 0,
        ..ServerOptions::default()
    };
    let bench = Bench::with_options(vec![], options);
    for (body, status) in [
        (json!({ "source": "", "sauce": 1 }), 400),
        (json!({ "args": {} }), 400),
        (json!({ "source": "", "timeout": 0 }), 400),
        (json!({ "source": "", "timeout": 1e9 }), 400),
        (json!({ "source": "", "max_tokens": 0 }), 400),
        (json!({ "source": "" }), 429),
    ] {
        let (got, answer) = bench.post("/v1/programs", &body).await;
        assert_eq!(got, status, "{body}: {answer}");
    }
}
