//! The routes over a scripted model: no checkpoint, no network.

mod chat;
mod routes;
mod script;
mod sockets;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use lmrun_interpreter::ScriptBackend;

use self::script::{Script, ScriptedModel};
use crate::router;
use crate::state::App;
use crate::{ServerOptions, state};

/// A server over a script.
pub(crate) struct Bench {
    pub(crate) model: Arc<ScriptedModel>,
    pub(crate) app: App,
    pub(crate) router: Router,
}

impl Bench {
    pub(crate) fn new(script: Vec<Script>) -> Self {
        Self::with_options(
            script,
            ServerOptions {
                model_name: "m".into(),
                ..Default::default()
            },
        )
    }

    pub(crate) fn with_options(script: Vec<Script>, options: ServerOptions) -> Self {
        let model = Arc::new(ScriptedModel::new(script));
        let backend = ScriptBackend::new().say("x", ["scripted"]);
        let app = state::App::new(model.clone(), Arc::new(backend), options);
        Self {
            model,
            router: router(app.clone()),
            app,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        text(self.send(request).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, text) = text(self.send(post(path, body.to_string())).await).await;
        (status, serde_json::from_str(&text).expect(&text))
    }

    /// The chunks of a stream, which must end with the marker.
    pub(crate) async fn stream(&self, body: &Value) -> Vec<Value> {
        let response = self
            .send(post("/v1/chat/completions", body.to_string()))
            .await;
        let (status, text) = text(response).await;
        assert_eq!(status, 200, "{text}");
        let mut data: Vec<&str> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.into_iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

pub(crate) fn post(path: &str, body: String) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
