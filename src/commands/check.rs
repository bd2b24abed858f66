//! `lmrun check`: every finding of every file, in one run.

use serde_json::Value;

use crate::cli::{CheckFormat, CheckOptions};
use crate::failure::{ExitCode, Failure};
use crate::{output, source};

/// Checks files or explains a code. A file that cannot be read does not keep the others from being checked.
pub(crate) fn check(options: &CheckOptions) -> Result<ExitCode, Failure> {
    if let Some(code) = &options.explain {
        return explain(code);
    }
    let mut reports = Vec::new();
    let mut code = ExitCode::OK;
    let mut unreadable: Option<Failure> = None;
    for path in &options.files {
        let source = match source::read(path) {
            Ok(source) => source,
            Err(failure) => {
                // The last one is told where the command ends.
                if let Some(earlier) = unreadable.replace(failure) {
                    output::say(format_args!(
                        "error: {}",
                        earlier.message().unwrap_or_default()
                    ));
                }
                continue;
            }
        };
        let checked = lmrun_interpreter::check(&source.name, &source.text);
        if checked.program.is_none() {
            code = ExitCode::CHECK;
        }
        let (findings, name, text) = (&checked.diagnostics, &source.name, &source.text);
        match options.format() {
            CheckFormat::Json => reports.push(lmrun_lang::to_json(findings, name, text)),
            CheckFormat::Human if findings.is_empty() => {}
            CheckFormat::Human => {
                let rendered = lmrun_lang::render(findings, name, text, output::colour());
                output::say(rendered.trim_end());
            }
        }
    }
    if options.format() == CheckFormat::Json {
        output::print_json(&Value::Array(reports))?;
    }
    match unreadable {
        Some(failure) => Err(failure),
        None => Ok(code),
    }
}

fn explain(code: &str) -> Result<ExitCode, Failure> {
    let Some(text) = lmrun_lang::explain(code) else {
        return Err(Failure::usage(format!(
            "there is no finding with the code {code}"
        )));
    };
    output::print(&format!("{code}: {text}\n"))?;
    Ok(ExitCode::OK)
}
