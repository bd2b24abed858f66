//! A host: a Rust program that opens a model, runs a `.lmp` program on it and reads its events.
//!
//!     cargo run --release --example host -- examples/judge.lmp

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lmrun_engine::{Engine, EngineOptions};
use lmrun_interpreter::{Arguments, Cancel, EngineBackend, Event, RunOptions, check, run};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to a person"
)]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: host PROGRAM.lmp")?;
    let source = std::fs::read_to_string(&path)?;
    let checked = check(&path, &source);
    let Some(program) = checked.program else {
        bail!(
            "{}",
            lmrun_lang::render(&checked.diagnostics, &path, &source, false)
        );
    };

    let model = lmrun::models::ensure_default()?;
    let engine = Engine::open(&model, &EngineOptions::default())?;
    let backend = Arc::new(EngineBackend::new(engine.handle()));

    let (sender, mut events) = mpsc::unbounded_channel();
    let running = run(
        Arc::new(program),
        Arguments::new(),
        RunOptions::default(),
        backend,
        sender,
        Cancel::new(),
    );
    let listening = async {
        while let Some(event) = events.recv().await {
            if let Event::GenEnd {
                branch,
                name,
                value,
                ..
            } = event
            {
                eprintln!("[{branch}] {} = {value}", name.unwrap_or_default());
            }
        }
    };
    let (envelope, ()) = tokio::join!(running, listening);
    println!("{}", serde_json::to_string_pretty(&envelope)?);
    Ok(())
}
