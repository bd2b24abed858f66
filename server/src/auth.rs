//! The API key: every route but `/health` asks for it when the server has one.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::error::ApiError;
use crate::state::App;

/// The one route that anybody may ask.
const OPEN_ROUTE: &str = "/health";

/// Refuses requests without the key.
pub(crate) async fn require_key(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.uri().path() != OPEN_ROUTE
        && let Some(key) = &app.options.api_key
        && !carries(request.headers(), key)
    {
        let message = "the request carries no valid API key: send `Authorization: Bearer KEY`";
        let error = ApiError::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message);
        return error.into_response();
    }
    next.run(request).await
}

/// Whether the headers hold `key`. How long that takes depends on the key's length, not on its bytes.
fn carries(headers: &HeaderMap, key: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes())
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .is_some_and(|given| bool::from(given.ct_eq(key.as_bytes())))
}
