//! One file a command. Each gives the process's exit code, or a failure with its own.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod grammar;
mod loading;
pub(crate) mod models;
pub(crate) mod run;
pub(crate) mod serve;

use std::io::IsTerminal;
use std::path::Path;

use lmrun::models::{StandardError, Store};
use lmrun_engine::{Engine, EngineOptions};
use tokio::runtime::{Builder, Runtime};

use self::loading::Loading;
use crate::cli::{ComputeArguments, EngineArguments};
use crate::failure::{ExitCode, Failure};
use crate::output;
use crate::signals::Signals;

/// The models of this machine; what fetching has to say goes to standard error.
fn store(offline: bool) -> Result<Store, Failure> {
    Ok(Store::from_env(offline, StandardError::default())?)
}

/// Opens a model, naming it in the error. A person at a terminal may be shown how far it is.
fn open(
    name: &str,
    path: &Path,
    options: &EngineOptions,
    may_show: bool,
) -> Result<Engine, Failure> {
    let opened = if may_show && std::io::stderr().is_terminal() {
        let loading = Loading::begin(name);
        Engine::open_with_progress(path, options, move |progress| loading.tell(progress))
    } else {
        Engine::open(path, options)
    };
    let engine = opened
        .map_err(|error| Failure::backend(format!("cannot open the model {name}: {error}")))?;
    if let Some(reason) = &engine.handle().info().place.refused {
        output::say(format_args!(
            "warning: computing on the CPU, not on GPU 0: {reason}; --device cpu does so unasked"
        ));
    }
    Ok(engine)
}

/// The engine's options; what the command line leaves open keeps its default.
fn engine_options(arguments: &EngineArguments) -> EngineOptions {
    EngineOptions {
        kv_tokens: arguments.kv_tokens.unwrap_or(0),
        ..compute_options(&arguments.compute)
    }
}

/// Those of them that say how a model computes.
fn compute_options(arguments: &ComputeArguments) -> EngineOptions {
    EngineOptions {
        n_threads: arguments.threads.unwrap_or(0),
        device: arguments.device,
        kv_format: arguments.kv_type,
        quantisation: arguments.quant,
        ..EngineOptions::default()
    }
}

/// Drives a command to its end. Work it left behind on other threads does not hold up the process.
fn drive(
    mut builder: Builder,
    command: impl AsyncFnOnce(&mut Signals) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let runtime: Runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::backend(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        command(&mut signals).await
    });
    runtime.shutdown_background();
    done
}
