//! `lmrun serve`: open the model, listen, drain on SIGTERM or ctrl-C.

use std::net::SocketAddr;

use lmrun_server::ServerOptions;
use tokio::net::TcpListener;

use super::{open, stop_signal, store};
use crate::cli::ServeOptions;
use crate::failure::Failure;

/// Serves until told to stop.
pub(crate) fn serve(options: ServeOptions) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::backend(format!("cannot start the runtime: {error}")))?;
    let model = store(options.offline)?.locate(&options.model)?;
    // Bound before the model loads: a taken port is known at once.
    let listener = runtime.block_on(listen(SocketAddr::new(options.host, options.port)))?;
    let engine = open(&options.model, &model)?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::backend(format!("cannot tell the address: {error}")))?;
    eprintln!("{} is served at http://{address}", options.model);


    let server = ServerOptions {
        host: options.host,
        port: address.port(),
        api_key: options.api_key.filter(|key| !key.is_empty()),
        model_name: options.model,
        drain: options.drain,
        ..ServerOptions::default()
    };
    let stop = async {
        stop_signal().await;
        eprintln!("stopping: running requests may finish");
    };
    runtime
        .block_on(lmrun_server::serve(listener, engine.handle(), server, stop))
        .map_err(|error| Failure::backend(format!("the server stopped: {error}")))?;
    engine.shutdown(std::time::Duration::ZERO);
    Ok(0)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::backend(format!("cannot listen on {address}: {error}")))
}
