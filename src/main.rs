//! The `lmrun` command: run, check and serve programs, and fetch models. See docs/cli.md.

mod cli;
mod commands;
mod failure;
mod output;
mod signals;
mod source;

use std::process;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::{ExitCode, Failure};

fn main() -> process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match &cli.command {
        Command::Run(options) => commands::run::run(options),
        Command::Check(options) => commands::check::check(options),
        Command::Grammar(options) => commands::grammar::grammar(options),
        Command::Models(options) => commands::models::models(options),
        Command::Serve(options) => commands::serve::serve(options),
        Command::Doctor(options) => commands::doctor::doctor(options),
        Command::Bench(options) => commands::bench::bench(options),
    };
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::say(format_args!("error: {message}"));
            }
            failure.code().into()
        }
    }
}

/// Help and version, or what is wrong with the command line. Whoever asked `run` for an envelope gets one.
fn refuse(error: &clap::Error) -> process::ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::OK.into();
    }
    let mut arguments = std::env::args_os().skip(1);
    let is_run = arguments.next().is_some_and(|command| command == "run");
    if is_run && arguments.any(|argument| argument == "--json") {
        let message = error.render().to_string();
        let message = message.lines().next().unwrap_or_default();
        let failure = Failure::usage(message.trim_start_matches("error: "));
        let _ = output::print_json(&failure.envelope(None));
    }
    ExitCode::USAGE.into()
}
