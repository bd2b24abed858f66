//! `lmrun models`: list, pull, info, rm.

use lmrun::models::{Bytes, Store};
use lmrun_engine::EngineOptions;
use serde_json::json;
use tokio::runtime::Builder;

use super::{drive, open, store};
use crate::cli::{ModelsCommand, ModelsOptions};
use crate::failure::{ExitCode, Failure};
use crate::output;

/// Tokens of KV memory to describe a model with: nothing is generated.
const INFO_TOKENS: usize = 1024;

/// Carries one of the commands out, on a thread of its own, so that ctrl-C is heard.
pub(crate) fn models(options: &ModelsOptions) -> Result<ExitCode, Failure> {
    let options = options.clone();
    drive(Builder::new_current_thread(), async |signals| {
        signals.guard(move || carry_out(&options)).await?;
        Ok(ExitCode::OK)
    })
}

fn carry_out(options: &ModelsOptions) -> Result<(), Failure> {
    let store = store(options.offline)?;
    match &options.command {
        ModelsCommand::List => list(&store, options.json),
        ModelsCommand::Pull { model } => pull(&store, model, options.json),
        ModelsCommand::Info { model } => info(&store, model, options.json),
        ModelsCommand::Rm { model } => remove(&store, model, options.json),
    }
}

fn list(store: &Store, json: bool) -> Result<(), Failure> {
    let entries = store.list();
    if json {
        return output::print_json(&entries);
    }
    let width = entries
        .iter()
        .map(|entry| entry.name.len())
        .max()
        .unwrap_or(0);
    let lines: String = entries
        .iter()
        .map(|entry| {
            let place = match entry.cached {
                true => entry.path.display().to_string(),
                false => "not fetched".to_owned(),
            };
            let size = Bytes(entry.size).to_string();
            let license = entry.license.unwrap_or("");
            format!("{:width$}  {size:>10}  {license:10}  {place}\n", entry.name)
        })
        .collect();
    output::print(&lines)
}

fn pull(store: &Store, model: &str, json: bool) -> Result<(), Failure> {
    let path = store.pull(model)?;
    if json {
        output::print_json(&json!({"model": model, "path": path}))
    } else {
        output::print(&format!("{}\n", path.display()))
    }
}

fn info(store: &Store, model: &str, json: bool) -> Result<(), Failure> {
    let path = store.locate(model)?;
    let options = EngineOptions {
        kv_tokens: INFO_TOKENS,
        ..EngineOptions::default()
    };
    let engine = open(model, &path, &options, !json)?;
    let handle = engine.handle();
    let info = handle.info();
    let fields = json!({
        "model": model,
        "path": path,
        "name": info.name,
        "architecture": info.architecture,
        "parameters": info.n_parameters,
        "weights": info.weight_type,
        "layers": info.n_layers,
        "heads": info.n_heads,
        "kv_heads": info.n_kv_heads,
        "hidden": info.hidden,
        "vocabulary": info.n_vocab,
        "context": info.context_length,
        "chat_template": handle.chat_template().is_some(),
    });
    if json {
        return output::print_json(&fields);
    }
    let lines: String = fields
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key:14} {text}\n"),
            None => format!("{key:14} {value}\n"),
        })
        .collect();
    output::print(&lines)
}

fn remove(store: &Store, model: &str, json: bool) -> Result<(), Failure> {
    let removed = store.remove(model)?;
    if json {
        let removed: Vec<_> = removed
            .iter()
            .map(|(path, size)| json!({"path": path, "size": size}))
            .collect();
        return output::print_json(&json!({"removed": removed}));
    }
    let lines: String = removed
        .iter()
        .map(|(path, size)| format!("removed {} ({})\n", path.display(), Bytes(*size)))
        .collect();
    output::print(&lines)
}
