//! `GET /v1/models` and `GET /v1/models/{id}`: the one model there is.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::App;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [describe(&app)] }))
}

/// `GET /v1/models/{id}`; an id may hold slashes.
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    require(&app, &id)?;
    Ok(Json(describe(&app)))
}

/// Refuses every name but ours.
pub(crate) fn require(app: &App, name: &str) -> Result<(), ApiError> {
    let served = &app.options.model_name;
    if name == served {
        return Ok(());
    }
    let message = format!("there is no model `{name}`; `{served}` is served");
    let mut error = ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
    error.param = Some("model".to_owned());
    Err(error)
}

fn describe(app: &App) -> Value {
    json!({
        "id": app.options.model_name,
        "object": "model",
        "created": app.started,
        "owned_by": "lmrun",
        "context_length": app.model.context_length(),
    })
}
