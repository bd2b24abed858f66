//! `POST /v1/chat/completions`, as the openai package speaks it.
//!
//! [`request`] reads the body, [`plan`] turns it into tokens and constraints, a [`turn`] for each choice drives the
//! engine and tells what happens as deltas, and [`response`] or [`stream`] writes those down.

mod constraint;
mod fields;
mod logprobs;
mod messages;
mod plan;
mod prompt;
mod request;
mod response;
mod stream;
mod tags;
#[cfg(test)]
mod tests;
mod tools;
mod turn;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, StreamExt, stream as streams};
use tokio::sync::mpsc;

use self::plan::{Mode, Plan};
use self::request::ChatRequest;
use self::response::{Collected, Head};
use self::stream::{Chunks, Sent};
use self::turn::{Delta, Turn};
use crate::driven::Driven;
use crate::error::ApiError;
use crate::limits::read_json;
use crate::state::{App, now};
use crate::{models, random, sse};

/// What the OpenAI API sends last.
const END_MARKER: &str = "[DONE]";

/// `POST /v1/chat/completions`.
pub(crate) async fn completions(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = read_json(&headers, body, app.options.max_body_bytes).await?;
    let request = ChatRequest::parse(&body)?;
    if let Some(model) = &request.model {
        models::require(&app, model)?;
    }
    let (is_stream, include_usage) = (request.stream, request.include_usage);
    let n_choices = request.n_choices;
    let plan = Arc::new(prepare(&app, request).await?);
    let head = Head {
        id: random::name("chatcmpl-"),
        created: now(),
        model: app.options.model_name.clone(),
    };
    let deltas = deltas(&app, &plan, n_choices);
    if is_stream {
        stream(&app, Chunks::new(head, include_usage, n_choices), deltas).await
    } else {
        collect(&app, &head, n_choices, deltas).await
    }
}

/// Makes the plan on threads where it may take its time, a few at once.
///
/// What compiles past the deadline is given up. It keeps its permit until the limits of its constraint end it, so what
/// was given up never adds up to more than the permits.
async fn prepare(app: &App, request: ChatRequest) -> Result<Plan, ApiError> {
    let permit = app.preparing.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::shutting_down())?;
    let shared = app.clone();
    let compiling = tokio::task::spawn_blocking(move || {
        let mode = Mode::compile(&request, shared.model.as_ref());
        (mode, request, permit)
    });
    let deadline = app.options.compile_timeout;
    let compiled = tokio::time::timeout(deadline, compiling).await;
    let compiled = compiled.map_err(|_| compile_timeout(deadline))?;
    let (mode, request, _permit) = compiled.map_err(|_| ApiError::internal())?;
    let (mode, shared) = (mode?, app.clone());
    let work = move || {
        let max_tokens = shared.options.max_tokens;
        Plan::new(
            request,
            mode,
            shared.model.as_ref(),
            &shared.specials,
            max_tokens,
        )
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal())?
}

fn compile_timeout(deadline: Duration) -> ApiError {
    let n_ms = deadline.as_millis();
    let message = format!(
        "the request's constraints take longer to compile than the server's limit of {n_ms} ms: make them smaller"
    );
    ApiError::new(StatusCode::BAD_REQUEST, Some("constraint_invalid"), message)
}

/// The deltas of every choice as they come, with the choice's index. Dropping the stream cancels the choices.
fn deltas(
    app: &App,
    plan: &Arc<Plan>,
    n_choices: usize,
) -> impl Stream<Item = (usize, Delta)> + Send + Unpin + use<> {
    streams::select_all((0..n_choices).map(|idx| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let turn = Turn::new(app.model.clone(), plan.clone(), idx, sender);
        Driven::new(turn.run().boxed(), receiver, |delta| delta).map(move |delta| (idx, delta))
    }))
}

/// The whole completion as one answer.
async fn collect(
    app: &App,
    head: &Head,
    n_choices: usize,
    mut deltas: impl Stream<Item = (usize, Delta)> + Unpin,
) -> Result<Response, ApiError> {
    let mut choices: Vec<Collected> = std::iter::repeat_with(Collected::default)
        .take(n_choices)
        .collect();
    let mut ending = pin!(app.ending());
    loop {
        tokio::select! {
            next = deltas.next() => match next {
                Some((idx, delta)) => choices[idx].take(delta)?,
                None => break,
            },
            () = &mut ending => return Err(ApiError::shutting_down()),
        }
    }
    Ok(Json(response::completion(head, choices)).into_response())
}

/// The completion in chunks. What fails before the engine begins still has a status of its own.
async fn stream(
    app: &App,
    mut chunks: Chunks,
    mut deltas: impl Stream<Item = (usize, Delta)> + Send + Unpin + 'static,
) -> Result<Response, ApiError> {
    let first = tokio::select! {
        first = deltas.next() => first,
        () = app.ending() => return Err(ApiError::shutting_down()),
    };
    let first = match first {
        Some((_, Delta::Ended(Err(error)))) => return Err(error.into()),
        Some(first) => first,
        None => return Err(ApiError::internal()),
    };
    let deltas = streams::iter([first]).chain(deltas);
    let events = deltas
        .scan(false, move |is_over, (idx, delta)| {
            let events = (!*is_over).then(|| {
                let sent = chunks.take(idx, delta);
                *is_over = matches!(sent, Sent::Error(_));
                streams::iter(events(&sent))
            });
            std::future::ready(events)
        })
        .flatten();
    Ok(sse::respond(app, events, |error| sse::data(&error.body())))
}

/// What goes over the wire.
fn events(sent: &Sent) -> Vec<Event> {
    match sent {
        Sent::Chunks(chunks) => chunks.iter().map(sse::data).collect(),
        Sent::Last(chunks) => chunks
            .iter()
            .map(sse::data)
            .chain([Event::default().data(END_MARKER)])
            .collect(),
        Sent::Error(error) => vec![sse::data(&error.body())],
    }
}
