//! `lmrun serve`: open the model, listen, drain on SIGTERM or ctrl-C.

use std::net::SocketAddr;
use std::time::Duration;

use lmrun_engine::Engine;
use lmrun_server::ServerOptions;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::{drive, engine_options, open, store};
use crate::cli::ServeOptions;
use crate::failure::{ExitCode, Failure};
use crate::output;
use crate::signals::{Signals, Stop};

/// Threads that speak HTTP. The engine computes on threads of its own.
const N_WORKERS: usize = 2;

/// Serves until told to stop.
pub(crate) fn serve(options: &ServeOptions) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(output::colour())
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(N_WORKERS);
    drive(runtime, async |signals| listen(options, signals).await)
}

async fn listen(options: &ServeOptions, signals: &mut Signals) -> Result<ExitCode, Failure> {
    let wanted = SocketAddr::new(options.host, options.port);
    let refused = |error| Failure::backend(format!("cannot listen on {wanted}: {error}"));
    // Bound before the model is fetched or loaded: a taken port is known at once.
    let listener = TcpListener::bind(wanted).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let engine = load(options, signals).await?;

    let api_key = options.api_key.clone().filter(|key| !key.is_empty());
    if !address.ip().is_loopback() && api_key.is_none() {
        output::say("warning: whoever reaches this address can use the model: set LMRUN_API_KEY");
    }
    output::say(format_args!(
        "{} is served at http://{address}",
        options.model
    ));
    let server = ServerOptions {
        host: options.host,
        port: address.port(),
        api_key,
        model_name: options.model.clone(),
        drain: options.drain,
        ..ServerOptions::default()
    };
    let (sender, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async {
        // The sender is not dropped before the server has ended.
        let _ = stopped.await;
    };
    let serving = lmrun_server::serve(listener, engine.handle(), server, shutdown);
    let ended = until_stopped(serving, sender, options.drain, signals).await;
    engine.shutdown(Duration::ZERO);
    ended
}

/// Polls the server to its end. The first signal begins the draining, the second cuts it short.
async fn until_stopped(
    serving: impl Future<Output = std::io::Result<()>>,
    sender: tokio::sync::oneshot::Sender<()>,
    drain: Duration,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let failed = |error| Failure::backend(format!("the server stopped: {error}"));
    let mut serving = std::pin::pin!(serving);
    let stop = tokio::select! {
        ended = &mut serving => return ended.map(|()| ExitCode::OK).map_err(failed),
        stop = signals.next() => stop,
    };
    output::say(format_args!("stopping: what runs may go on for {drain:?}"));
    let _ = sender.send(());
    tokio::select! {
        ended = serving => ended.map_err(failed)?,
        _ = signals.next() => return Err(Failure::interrupted()),
    }
    Ok(match stop {
        Stop::Interrupt => ExitCode::INTERRUPTED,
        Stop::Terminate => ExitCode::OK,
    })
}

async fn load(options: &ServeOptions, signals: &mut Signals) -> Result<Engine, Failure> {
    let (name, offline) = (options.model.clone(), options.offline);
    let engine = engine_options(&options.engine);
    signals
        .guard(move || {
            let path = store(offline)?.locate(&name)?;
            open(&name, &path, &engine, true)
        })
        .await
}
