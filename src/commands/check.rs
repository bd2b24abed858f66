//! `lmrun check`: every finding of every file, in one run.

use lmrun_interpreter::check as check_source;
use serde_json::Value;

use crate::cli::CheckOptions;
use crate::failure::{ExitCode, Failure};
use crate::{output, source};

/// Checks files or explains a code.
pub(crate) fn check(options: &CheckOptions) -> Result<u8, Failure> {
    if let Some(code) = &options.explain {
        return explain(code);
    }
    let mut reports = Vec::new();
    let mut all_run = true;
    for path in &options.files {
        let source = source::read(path)?;
        let checked = check_source(&source.name, &source.text);
        all_run &= checked.program.is_some();
        if options.json {
            reports.push(lmrun_lang::to_json(&checked.diagnostics, &source.name, &source.text));
        } else {
            let colour = output::colour();
            let text =
                lmrun_lang::render(&checked.diagnostics, &source.name, &source.text, colour);
            eprint!("{text}");
        }
    }
    if options.json {
        output::print_json(&Value::Array(reports))?;
    }
    Ok(if all_run { 0 } else { ExitCode::Check as u8 })
}

fn explain(code: &str) -> Result<u8, Failure> {
    let Some(text) = lmrun_lang::explain(code) else {
        return Err(Failure::usage(format!("there is no finding with the code {code}")));
    };
    output::print(&format!("{code}: {text}\n"))?;
    Ok(0)
}
