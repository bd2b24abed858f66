//! `lmrun run`: check the program, get the model, run, print.
//!
//! Standard output holds the generated text of the program's own context as it comes, then the value of its `return`, if
//! it has one; with `--json` one envelope and nothing else; with `--stream=ndjson` one event a line. All else goes
//! to standard error.

use std::sync::Arc;

use lmrun::models;
use lmrun_engine::Handle;
use lmrun_interpreter::{
    Arguments, Cancel, EngineBackend, Envelope, Event, RunOptions as InterpreterOptions, Status,
    check, parse_argument, run as interpret,
};
use lmrun_lang::Program;
use lmrun_lang::ast::{Block, StmtKind};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{open, stop_signal, store};
use crate::cli::RunOptions;
use crate::failure::{ExitCode, Failure};
use crate::{output, source};

/// The branch whose text is the program's answer.
const ROOT: &str = "0";

/// Runs a program; every way it can end is an exit code.
pub(crate) fn run(options: RunOptions) -> Result<u8, Failure> {
    let json = options.json;
    let done = try_run(options);
    match done {
        Err(failure) if json => {
            // A script that asked for an envelope gets one whatever happened.
            let kind = match failure.code {
                ExitCode::Usage => "arguments",
                ExitCode::Check => "check",
                _ => "backend",
            };
            let error = json!({"kind": kind, "message": failure.to_string()});
            output::print_json(&json!({
                "status": "error", "result": null, "gens": {}, "usage": {}, "error": error
            }))?;
            Err(failure)
        }
        done => done,
    }
}

fn try_run(options: RunOptions) -> Result<u8, Failure> {
    let source = source::read(&options.file)?;
    let checked = check(&source.name, &source.text);
    let findings = &checked.diagnostics;
    eprint!("{}", lmrun_lang::render(findings, &source.name, &source.text, output::colour()));
    let Some(program) = checked.program else {
        let n = findings.iter().filter(|finding| finding.is_error()).count();
        return Err(Failure::check(format!("{} was not run: errors found: {n}", source.name)));
    };
    let arguments = arguments(&program, &options)?;
    let name = match (&options.model, program.model()) {
        (Some(name), _) => name.clone(),
        (None, Some((name, _))) => name.to_owned(),
        (None, None) => models::DEFAULT.to_owned(),
    };
    let path = store(options.offline)?.locate(&name)?;
    let engine = open(&name, &path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::backend(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(carry_out(Arc::new(program), arguments, &options, engine.handle()))
}

/// The program's arguments: the JSON object first, then each `--arg` over it.
fn arguments(program: &Program, options: &RunOptions) -> Result<Arguments, Failure> {
    let mut arguments = match options.arg_json.as_deref().map(serde_json::from_str) {
        None => Arguments::new(),
        Some(Ok(Value::Object(object))) => object,
        Some(Ok(other)) => {
            return Err(Failure::usage(format!("--arg-json must be a JSON object, given {other}")));
        }
        Some(Err(error)) => {
            return Err(Failure::usage(format!("--arg-json is not JSON: {error}")));
        }
    };
    for argument in &options.arguments {
        let (name, text) = argument.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--arg {argument}: write --arg name=value or name=@file"))
        })?;
        let text = match text.strip_prefix('@') {
            None => text.to_owned(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("--arg {name}: {path}: {error}")))?,
        };
        let value = parse_argument(program, name, &text)
            .map_err(|error| Failure::usage(error.to_string()))?;
        arguments.insert(name.to_owned(), value);
    }
    Ok(arguments)
}

async fn carry_out(
    program: Arc<Program>,
    arguments: Arguments,
    options: &RunOptions,
    handle: Handle,
) -> Result<u8, Failure> {
    let returns = has_return(&program.ast.body);
    let how = InterpreterOptions {
        seed: options.seed,
        max_tokens: options.max_tokens,
        timeout: options.timeout,
        dry_run: options.dry_run,
        ..InterpreterOptions::default()
    };
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let cancel = Cancel::new();
    let backend = Arc::new(EngineBackend::new(handle));
    let running = interpret(program, arguments, how, backend, sender, cancel.clone());
    let stopping = async {
        stop_signal().await;
        cancel.cancel();
        // A second signal ends the process at once.
        stop_signal().await;
        std::process::exit(ExitCode::Interrupted as i32);
    };
    let both = async { tokio::join!(running, print_events(events, options)) };
    let (envelope, printed) = tokio::select! {
        done = both => done,
        () = stopping => unreachable!("the process exits first"),
    };
    let streamed = printed?;
    finish(&envelope, options, returns, streamed)?;
    Ok(u8::try_from(envelope.exit_code()).unwrap_or(ExitCode::Backend as u8))
}

/// Prints events until the run ends; tells whether the last text printed left its line open.
async fn print_events(
    mut events: UnboundedReceiver<Event>,
    options: &RunOptions,
) -> Result<bool, Failure> {
    let mut line_open = false;
    while let Some(event) = events.recv().await {
        if options.stream.is_some() {
            output::print_json(&event)?;
            continue;
        }
        if options.json {
            continue;
        }
        match event {
            Event::Text { branch, text, .. } if branch == ROOT && !text.is_empty() => {
                output::print(&text)?;
                line_open = !text.ends_with('\n');
            }
            Event::GenEnd { branch, .. } if branch == ROOT && line_open => {
                output::print("\n")?;
                line_open = false;
            }
            Event::Prompt { branch, name, text, tokens, .. } => {
                let name = name.unwrap_or_default();
                output::print(&format!("--- {branch} {name} ({tokens} tokens)\n{text}\n"))?;
            }
            _ => {}
        }
    }
    Ok(line_open)
}

/// The end of a run: the envelope, or the returned value and the error.
fn finish(
    envelope: &Envelope,
    options: &RunOptions,
    returns: bool,
    line_open: bool,
) -> Result<(), Failure> {
    if line_open {
        output::print("\n")?;
    }
    if options.json {
        output::print_json(envelope)?;
    } else if options.stream.is_none() && returns && envelope.status == Status::Ok {
        let text = match &envelope.result {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value)
                .map_err(|error| Failure::backend(format!("cannot write JSON: {error}")))?,
        };
        output::print(&(text + "\n"))?;
    }
    if let Some(error) = &envelope.error {
        eprintln!("error: {}:{error}", options.file.display());
    }
    Ok(())
}

/// Whether the program itself, not a function of it, returns a value somewhere.
fn has_return(block: &Block) -> bool {
    block.stmts.iter().any(|stmt| match &stmt.kind {
        StmtKind::Return(_) => true,
        StmtKind::If { then, otherwise, .. } => {
            has_return(then) || otherwise.as_ref().is_some_and(has_return)
        }
        StmtKind::For { body, .. } | StmtKind::Loop { body, .. } => has_return(body),
        StmtKind::Match { arms, .. } => arms.iter().any(|arm| has_return(&arm.body)),
        _ => false,
    })
}
