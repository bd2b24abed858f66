//! `lmrun grammar check`: whether a constraint is supported, and what it costs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lmrun::grammar_suite::{Examination, Source, examine, keywords};
use lmrun_grammar::JsonOptions;
use serde_json::{Value, json};

use super::{refused, vocabulary};
use crate::cli::TokenArguments;
use crate::failure::{ExitCode, Failure};
use crate::output;

pub(super) fn check(file: &Path, tokens: &TokenArguments, json: bool) -> Result<ExitCode, Failure> {
    let source = Source::read(file)?;
    let vocabulary = vocabulary(tokens)?;
    let examination = match examine(&source, &JsonOptions::default(), &vocabulary) {
        Ok(examination) => examination,
        Err(refusal) if json => {
            let error = refusal.to_json();
            output::print_json(
                &json!({"kind": source.kind(), "supported": false, "error": error}),
            )?;
            return Ok(ExitCode::CHECK);
        }
        Err(refusal) => return Err(refused(file, &refusal)),
    };
    let used = match &source {
        Source::Schema(schema) => keywords(schema),
        _ => BTreeMap::new(),
    };
    let fields = fields(&source, &examination, &used);
    if json {
        output::print_json(&fields)?;
    } else {
        output::print(&rendered(&fields))?;
    }
    Ok(ExitCode::OK)
}

fn fields(source: &Source, examination: &Examination, used: &BTreeMap<&str, usize>) -> Value {
    let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
    let mut fields = json!({
        "kind": source.kind(),
        "supported": true,
        "compile_us": micros(examination.compile),
        "first_mask_us": micros(examination.first_mask),
        "first_tokens": examination.n_first,
        "min_tokens": examination.min_tokens,
        "min_bytes": examination.min_bytes,
        "short": examination.short,
    });
    if matches!(source, Source::Schema(_)) {
        fields["keywords"] = json!(used);
    }
    fields
}

/// A line a field; of keywords `type 3, items 1`.
fn rendered(fields: &Value) -> String {
    let line = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key:14} {text}\n"),
        Value::Object(counts) => {
            let counts: Vec<_> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            format!("{key:14} {}\n", counts.join(", "))
        }
        other => format!("{key:14} {other}\n"),
    };
    fields.as_object().into_iter().flatten().map(line).collect()
}
