//! The HTTP surface: programs and OpenAI-compatible routes.
//!
//! A request's way: `accept` takes the connection, `auth` and `limits` judge it, a handler reads its body into a
//! plan, and a future drives the engine. That future belongs to the response: when the client goes away it is dropped,
//! and its guards cancel what it asked of the engine. Nothing is spawned for a request.

mod accept;
mod auth;
mod chat;
mod driven;
mod error;
mod health;
mod limits;
mod metrics;
mod model;
mod models;
mod options;
mod programs;
mod random;
mod sse;
mod state;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use lmrun_engine::Handle;
use lmrun_interpreter::EngineBackend;
use tokio::net::TcpListener;

pub use options::ServerOptions;

use crate::state::App;

/// Serves `handle` on `listener` until `shutdown` ends. Then no connection is accepted and no request admitted any
/// more; what runs may go on for `options.drain`, and what is left after that ends with an error of its own.
///
/// # Errors
/// When the listener fails for good. A single connection's failure ends that connection alone.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let backend = Arc::new(EngineBackend::new(handle.clone()));
    let app = App::new(Arc::new(handle), backend, options);
    accept::run(listener, router(app.clone()), app, shutdown).await
}

/// Every route, and what guards them.
fn router(app: App) -> Router {
    Router::new()
        .route("/v1/programs", post(programs::run))
        .route("/v1/programs/check", post(programs::check))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .fallback(limits::no_route)
        .method_not_allowed_fallback(limits::no_method)
        .layer(from_fn_with_state(
            app.clone(),
            limits::refuse_when_draining,
        ))
        .layer(from_fn_with_state(app.clone(), auth::require_key))
        .layer(from_fn_with_state(app.clone(), metrics::count))
        .layer(from_fn(limits::contain_panics))
        .with_state(app)
}
