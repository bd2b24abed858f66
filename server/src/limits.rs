//! What a stranger may send: a body of bounded size holding bounded JSON, to a route that exists, while we serve.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use lmrun_grammar::Limits;
use serde_json::Value;

use crate::error::ApiError;
use crate::state::{App, Phase};

/// Routes that still answer while the server drains.
const OPEN_WHILE_DRAINING: [&str; 2] = ["/health", "/metrics"];

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a schema from a client may cost; well below what a program on this machine may.
pub(crate) fn grammar_limits() -> Limits {
    Limits {
        source_bytes: 256 << 10,
        schema_nodes: 10_000,
        depth: 64,
        ..Limits::default()
    }
}

/// The body as JSON. `serde_json` itself refuses nesting deeper than 128.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Value, ApiError> {
    if !is_json(headers) {
        // A page in a browser can post plain text to a server on this machine, but not JSON.
        let message = "the body must be sent with `content-type: application/json`";
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            None,
            message,
        ));
    }
    let too_large = || {
        let message = format!("the body is larger than {max_bytes} bytes");
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Some("body_too_large"),
            message,
        )
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if declared
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|n| n > max_bytes as u64)
    {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, max_bytes)).await;
    let read = read.map_err(|_| {
        let message = format!(
            "the body did not arrive within {} s",
            BODY_TIMEOUT.as_secs()
        );
        ApiError::new(StatusCode::REQUEST_TIMEOUT, Some("body_timeout"), message)
    })?;
    // Either the limit or the connection broke; on a broken one nobody reads the answer.
    let bytes = read.map_err(|_| too_large())?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the body is not JSON: {error}");
        ApiError::new(StatusCode::BAD_REQUEST, Some("invalid_json"), message)
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    given
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Refuses new work once a shutdown was asked for.
pub(crate) async fn refuse_when_draining(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let is_open = OPEN_WHILE_DRAINING.contains(&request.uri().path());
    if !is_open && app.phase() != Phase::Serving {
        return ApiError::shutting_down().into_response();
    }
    next.run(request).await
}

/// A panic is our fault and costs one request, not its connection.
pub(crate) async fn contain_panics(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!("a handler panicked");
            ApiError::internal().into_response()
        })
}

/// 404 for a route that does not exist.
pub(crate) async fn no_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("there is no route {method} {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, Some("unknown_url"), message)
}

/// 405 for a route that exists and takes another method.
pub(crate) async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Some("method_not_allowed"),
        message,
    )
}
