//! One file a command. Each gives the process's exit code, or a failure with its own.

pub(crate) mod check;
pub(crate) mod models;
pub(crate) mod run;
pub(crate) mod serve;

use std::path::Path;

use lmrun::models::{StandardError, Store};
use lmrun_engine::{Engine, EngineOptions};

use crate::failure::Failure;

/// The models of this machine; what fetching has to say goes to standard error.
fn store(offline: bool) -> Result<Store, Failure> {
    Ok(Store::from_env(offline, StandardError::default())?)
}

/// Opens a model, naming it in the error.
fn open(name: &str, path: &Path) -> Result<Engine, Failure> {
    Engine::open(path, &EngineOptions::default())
        .map_err(|error| Failure::backend(format!("cannot open the model {name}: {error}")))
}

/// Waits for ctrl-C or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} }
        }
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}
