//! `lmrun grammar suite`: cases with known answers, counted and timed.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lmrun::grammar_suite::{Cases, Suite};
use lmrun_grammar::KeyOrder;

use super::vocabulary;
use crate::cli::TokenArguments;
use crate::failure::{ExitCode, Failure};
use crate::output;

pub(super) fn suite(
    files: &[PathBuf],
    declared_order: bool,
    tokens: &TokenArguments,
    json: bool,
) -> Result<ExitCode, Failure> {
    // Every file is opened before the first case is judged, so that a wrong name is told at once.
    let files: Vec<Cases> = files
        .iter()
        .map(|path| Cases::open(path))
        .collect::<Result<_, _>>()?;
    let key_order = match declared_order {
        true => KeyOrder::Declared,
        false => KeyOrder::Any,
    };
    let mut suite = Suite::new(vocabulary(tokens)?, key_order);
    let bar = bar(files.iter().map(Cases::n_bytes).sum());
    let mut n_before = 0;
    for mut cases in files {
        while let Some(case) = cases.next() {
            let case = case.inspect_err(|_| bar.finish_and_clear())?;
            bar.set_message(case.name.clone());
            suite.take(&case);
            bar.set_position(n_before + cases.n_read());
        }
        n_before += cases.n_bytes();
    }
    bar.finish_and_clear();
    let report = suite.report();
    if json {
        output::print_json(&report.to_json())?;
    } else {
        output::print(&report.to_string())?;
    }
    Ok(match report.is_sound() {
        true => ExitCode::OK,
        false => ExitCode::FAILED,
    })
}

/// A bar on standard error if that is a terminal.
fn bar(n_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(n_bytes);
    let template = "[{bar:24}] {bytes}/{total_bytes} {eta} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
