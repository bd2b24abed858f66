//! Is the process alive, and do tokens move?

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lmrun_engine::{Event, Generate, Request, RequestError, Specials, Work};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};

use crate::error::ApiError;
use crate::model::Model;
use crate::state::App;

/// How long an answer stands before the engine is asked again.
const FRESH: Duration = Duration::from_secs(3);
/// How long one token may take, waiting requests before it included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last answer and when it was found. The lock is held while the engine is asked, so that many probes are one.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), ApiError>)>>);

/// `GET /health`: the process answers.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /ready`: the engine made a token just now.
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let mut last = app.readiness.0.lock().await;
    let fresh = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
    let answer = match fresh {
        Some((_, answer)) => answer.clone(),
        None => {
            let answer = probe(app.model.as_ref()).await;
            *last = Some((Instant::now(), answer.clone()));
            answer
        }
    };
    answer.map(|()| Json(json!({ "status": "ready" })))
}

/// Generates one token.
async fn probe(model: &dyn Model) -> Result<(), ApiError> {
    let not_ready =
        |why: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, Some("not_ready"), why);
    let generate = Generate {
        max_tokens: Some(1),
        ..Generate::default()
    };
    let request = Request {
        prompt: model.encode("ready", Specials::AsText),
        namespace: 0,
        work: Work::Generate(Box::new(generate)),
    };
    let (sender, receiver) = oneshot::channel();
    let mut sender = Some(sender);
    let sink = Box::new(move |event| {
        let outcome = match event {
            Event::Started { .. } | Event::Token(_) => return ControlFlow::Continue(()),
            Event::Failed(error) => Err(error),
            _ => Ok(()),
        };
        if let Some(sender) = sender.take() {
            // A probe that lost its patience has gone; the request ends by itself after its one token.
            let _ = sender.send(outcome);
        }
        ControlFlow::Break(())
    });
    let id = model
        .submit(request, sink)
        .map_err(|error| not_ready(error.to_string()))?;
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(not_ready(error.to_string())),
        Ok(Err(_)) => Err(not_ready(RequestError::Internal.to_string())),
        Err(_) => {
            model.cancel(id);
            Err(not_ready(format!(
                "no token within {} s",
                PATIENCE.as_secs()
            )))
        }
    }
}
