//! `POST /v1/programs` runs a program, `POST /v1/programs/check` says what is wrong with one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event as SseEvent;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, StreamExt};
use lmrun_interpreter::{Arguments, Cancel, Envelope, ErrorKind, Event, RunOptions};
use lmrun_lang::{Checked, Program};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::driven::Driven;
use crate::error::ApiError;
use crate::limits::read_json;
use crate::sse;
use crate::state::App;

/// What diagnostics call the source.
const FILE_NAME: &str = "program.lmp";

/// The body of `POST /v1/programs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunBody {
    source: String,
    #[serde(default)]
    args: Arguments,
    #[serde(default)]
    stream: bool,
    seed: Option<u64>,
    max_tokens: Option<usize>,
    /// Seconds.
    timeout: Option<f64>,
}

/// The body of `POST /v1/programs/check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    source: String,
}

/// `POST /v1/programs/check`: the diagnostics, whatever they are, with status 200.
pub(crate) async fn check(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body: CheckBody = parse(read_json(&headers, body, app.options.max_body_bytes).await?)?;
    let (checked, diagnostics) = checked(&app, body.source).await?;
    Ok(Json(
        json!({ "ok": checked.program.is_some(), "diagnostics": diagnostics }),
    ))
}

/// `POST /v1/programs`: the envelope, or the events and then the envelope.
pub(crate) async fn run(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body: RunBody = parse(read_json(&headers, body, app.options.max_body_bytes).await?)?;
    let options = run_options(&app, &body)?;
    let permit = app.programs.clone().try_acquire_owned().map_err(|_| {
        let limit = app.options.max_programs;
        ApiError::busy(format!(
            "{limit} programs run, which is the limit: try again later"
        ))
    })?;
    let (checked, diagnostics) = checked(&app, body.source).await?;
    let Some(program) = checked.program else {
        return Ok(refuse(&diagnostics));
    };
    let steps = start(&app, program, body.args, options, permit);
    if body.stream {
        Ok(stream(&app, steps))
    } else {
        finish(&app, steps).await
    }
}

/// The body's fields; `serde` names what is missing, wrong or unknown.
fn parse<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            Some("invalid_value"),
            error.to_string(),
        )
    })
}

fn run_options(app: &App, body: &RunBody) -> Result<RunOptions, ApiError> {
    let most_tokens = app.options.max_program_tokens;
    let max_tokens = body.max_tokens.unwrap_or(most_tokens);
    if max_tokens == 0 || max_tokens > most_tokens {
        let message = format!("max_tokens is {max_tokens}, it must be in 1..={most_tokens}");
        return Err(ApiError::invalid("max_tokens", message));
    }
    let longest = app.options.max_program_time;
    let seconds = body.timeout.unwrap_or(longest.as_secs_f64());
    if !(seconds > 0.0 && seconds <= longest.as_secs_f64()) {
        let limit = longest.as_secs_f64();
        let message = format!("timeout is {seconds} s, it must be above 0 and at most {limit} s");
        return Err(ApiError::invalid("timeout", message));
    }
    Ok(RunOptions {
        seed: body.seed,
        max_tokens: Some(max_tokens),
        timeout: Some(Duration::from_secs_f64(seconds)),
        ..RunOptions::default()
    })
}

/// Checks a source on a thread where it may take its time.
async fn checked(app: &App, source: String) -> Result<(Checked, Value), ApiError> {
    let _permit = app
        .preparing
        .acquire()
        .await
        .map_err(|_| ApiError::shutting_down())?;
    let work = move || {
        let checked = lmrun_interpreter::check(FILE_NAME, &source);
        let mut report = lmrun_lang::to_json(&checked.diagnostics, FILE_NAME, &source);
        let diagnostics = report["diagnostics"].take();
        (checked, diagnostics)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal())
}

/// 400 for a program with errors, with all of them.
fn refuse(diagnostics: &Value) -> Response {
    let mut error = ApiError::invalid("source", "the program has errors: see diagnostics");
    error.code = Some("program_invalid");
    let mut body = error.body();
    body["diagnostics"] = diagnostics.clone();
    (error.status, Json(body)).into_response()
}

/// What a run yields.
enum Step {
    Event(Event),
    /// The last one.
    Envelope(Box<Envelope>),
}

/// The run as a stream: polling it runs the program, dropping it cancels what it holds.
fn start(
    app: &App,
    program: Program,
    args: Arguments,
    options: RunOptions,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Step> + Send + use<> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backend = app.backend.clone();
    let run = lmrun_interpreter::run(
        Arc::new(program),
        args,
        options,
        backend,
        sender,
        Cancel::new(),
    );
    let run = async move {
        let envelope = run.await;
        drop(permit);
        Step::Envelope(Box::new(envelope))
    };
    Driven::new(run.boxed(), receiver, Step::Event)
}

/// The whole run as one answer.
async fn finish(app: &App, steps: impl Stream<Item = Step>) -> Result<Response, ApiError> {
    let mut steps = std::pin::pin!(steps.take_until(app.ending()));
    while let Some(step) = steps.next().await {
        let Step::Envelope(envelope) = step else {
            continue;
        };
        return match &envelope.error {
            Some(error) if error.kind == ErrorKind::Arguments => {
                Err(ApiError::invalid("args", error.message.clone()))
            }
            _ => Ok(Json(&envelope).into_response()),
        };
    }
    Err(ApiError::shutting_down())
}

/// The run as events: each named by its kind and numbered from 0, the last one `envelope`.
fn stream(app: &App, steps: impl Stream<Item = Step> + Send + 'static) -> Response {
    let events = steps.enumerate().map(|(idx, step)| {
        let (name, data) = match step {
            Step::Event(event) => named(&event),
            Step::Envelope(envelope) => ("envelope".to_owned(), to_value(&envelope)),
        };
        SseEvent::default()
            .event(name)
            .id(idx.to_string())
            .data(data.to_string())
    });
    sse::respond(app, events, |error| {
        SseEvent::default()
            .event("error")
            .data(error.body().to_string())
    })
}

/// An event's name and its data, which holds the branch and the place in the source.
fn named(event: &Event) -> (String, Value) {
    let data = to_value(event);
    let name = data["event"].as_str().unwrap_or("message").to_owned();
    (name, data)
}

fn to_value(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("events and envelopes have string keys only")
}
