//! `lmrun run`: check the program, get the model, run, print.

mod arguments;
mod printer;

use std::sync::Arc;

use lmrun::models;
use lmrun_engine::Engine;
use lmrun_interpreter::{
    Arguments, Cancel, EngineBackend, Envelope, RunOptions as InterpreterOptions,
};
use lmrun_lang::Program;
use lmrun_lang::ast::{Block, StmtKind};
use tokio::runtime::Builder;

use self::printer::Printer;
use super::{drive, engine_options, open, store};
use crate::cli::{RunFormat, RunOptions};
use crate::failure::{ExitCode, Failure};
use crate::signals::Signals;
use crate::source::Source;
use crate::{output, source};

/// Runs a program; every way it can end is an exit code.
pub(crate) fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let mut printer = Printer::new(options.format());
    let done = prepare_and_run(options, &mut printer);
    if let Err(failure) = &done
        && failure.message().is_some()
    {
        // Whoever asked for an envelope gets one, whatever happened.
        printer.no_run(&failure.envelope(options.seed))?;
    }
    done
}

/// Everything that can be wrong is found before the model is fetched or loaded.
fn prepare_and_run(options: &RunOptions, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let source = source::read(&options.file)?;
    let program = check(&source)?;
    let arguments = arguments::read(&program, options)?;
    drive(Builder::new_current_thread(), async |signals| {
        let engine = load(&program, options, signals).await?;
        let code = carry_out(program, arguments, options, &engine, printer, signals).await;
        drop(engine);
        code
    })
}

/// The checked program; its findings, also those that do not keep it from running, go to standard error.
fn check(source: &Source) -> Result<Program, Failure> {
    let checked = lmrun_interpreter::check(&source.name, &source.text);
    let findings = &checked.diagnostics;
    if !findings.is_empty() {
        let rendered = lmrun_lang::render(findings, &source.name, &source.text, output::colour());
        output::say(rendered.trim_end());
    }
    checked.program.ok_or_else(|| {
        let mut errors = findings.iter().filter(|finding| finding.is_error());
        let first = errors.next().map(|finding| source.error_of(finding));
        let count = match errors.count() + 1 {
            1 => "an error".to_owned(),
            n => format!("{n} errors"),
        };
        Failure::check(
            format!("{} has {count} and was not run", source.name),
            first,
        )
    })
}

/// Opens the model that the command line names, else the program, else the default.
async fn load(
    program: &Program,
    options: &RunOptions,
    signals: &mut Signals,
) -> Result<Engine, Failure> {
    let named = program.model().map(|(name, _)| name);
    let name = options
        .model
        .as_deref()
        .or(named)
        .unwrap_or(models::DEFAULT)
        .to_owned();
    let (offline, engine) = (options.offline, engine_options(&options.engine));
    let is_text = options.format() == RunFormat::Text;
    signals
        .guard(move || {
            let path = store(offline)?.locate(&name)?;
            open(&name, &path, &engine, is_text)
        })
        .await
}

async fn carry_out(
    program: Program,
    arguments: Arguments,
    options: &RunOptions,
    engine: &Engine,
    printer: &mut Printer,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let (file_name, returns) = (program.file_name.clone(), has_return(&program.ast.body));
    let how = InterpreterOptions {
        seed: options.seed,
        max_tokens: options.max_tokens,
        timeout: options.timeout,
        dry_run: options.dry_run,
        ..InterpreterOptions::default()
    };
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let cancel = Cancel::new();
    let backend = Arc::new(EngineBackend::new(engine.handle()));
    let program = Arc::new(program);
    let running = lmrun_interpreter::run(program, arguments, how, backend, sender, cancel.clone());
    let printing = async {
        while let Some(event) = events.recv().await {
            printer.event(&event)?;
        }
        Ok::<(), Failure>(())
    };
    // Printing that fails ends the run: dropping it cancels what it asked of the engine.
    let both = async {
        let (envelope, ()) = tokio::try_join!(async { Ok(running.await) }, printing)?;
        Ok(envelope)
    };
    let envelope = until_done(both, &cancel, signals).await?;
    printer.end(&envelope, returns)?;
    match &envelope.error {
        // `FILE:LINE:COLUMN: ..`, where there is a line.
        Some(error) if error.line > 0 => output::say(format_args!("error: {file_name}:{error}")),
        Some(error) => output::say(format_args!("error: {file_name}: {error}")),
        None => {}
    }
    Ok(ExitCode::of(&envelope))
}

/// Drives a run to its end, which a signal brings about; a second signal does not wait for it.
async fn until_done(
    running: impl Future<Output = Result<Envelope, Failure>>,
    cancel: &Cancel,
    signals: &mut Signals,
) -> Result<Envelope, Failure> {
    let mut running = std::pin::pin!(running);
    tokio::select! {
        done = &mut running => return done,
        _ = signals.next() => cancel.cancel(),
    }
    tokio::select! {
        done = running => done,
        _ = signals.next() => Err(Failure::interrupted()),
    }
}

/// Whether the program itself, not a function of it, returns a value somewhere.
fn has_return(block: &Block) -> bool {
    let any = |block: &Option<Block>| block.as_ref().is_some_and(has_return);
    block.stmts.iter().any(|stmt| match &stmt.kind {
        StmtKind::Return(_) => true,
        StmtKind::If {
            then, otherwise, ..
        } => has_return(then) || any(otherwise),
        StmtKind::Role { body, .. } | StmtKind::For { body, .. } | StmtKind::Loop { body, .. } => {
            has_return(body)
        }
        StmtKind::Match { arms, .. } => arms.iter().any(|arm| has_return(&arm.body)),
        StmtKind::Attempt {
            body,
            retry,
            otherwise,
            ..
        } => {
            let retries = retry.as_ref().is_some_and(|(_, body)| has_return(body));
            has_return(body) || retries || any(otherwise)
        }
        StmtKind::Let { .. }
        | StmtKind::Yield(_)
        | StmtKind::Assert(..)
        | StmtKind::Fail(_)
        | StmtKind::Pin(_)
        | StmtKind::Break
        | StmtKind::Continue
        | StmtKind::Assign { .. }
        | StmtKind::Expr(_) => false,
    })
}
