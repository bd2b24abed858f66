//! The `lmrun` command: run, check and serve programs, and fetch models.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing belongs")]

mod cli;
mod commands;
mod failure;
mod output;
mod source;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(options) => commands::run::run(options),
        Command::Check(options) => commands::check::check(&options),
        Command::Models(options) => commands::models::models(&options),
        Command::Serve(options) => commands::serve::serve(options),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}
