//! What the suites of this crate share: running a source against a script.

use std::sync::Arc;

use lmrun_interpreter::{
    Arguments, Backend, Call, Cancel, Envelope, Event, RunOptions, ScriptBackend, check, run,
};
use lmrun_lang::Program;
use serde_json::Value;

/// A source as a program.
pub(crate) fn program(source: &str) -> Arc<Program> {
    let checked = check("test.lmp", source);
    let findings: Vec<String> = checked
        .diagnostics
        .iter()
        .map(|finding| format!("{} {}", finding.code, finding.message))
        .collect();
    Arc::new(
        checked
            .program
            .unwrap_or_else(|| panic!("{findings:?}\n{source}")),
    )
}

/// Arguments from JSON.
pub(crate) fn arguments(json: &Value) -> Arguments {
    json.as_object().cloned().unwrap_or_default()
}

/// A whole run: its envelope and its events.
pub(crate) async fn play_with(
    source: &str,
    given: Value,
    options: RunOptions,
    script: &Arc<ScriptBackend>,
) -> (Envelope, Vec<Event>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let backend: Arc<dyn Backend> = Arc::clone(script) as Arc<dyn Backend>;
    let envelope = run(
        program(source),
        arguments(&given),
        options,
        backend,
        sender,
        Cancel::new(),
    )
    .await;
    let mut events = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        events.push(event);
    }
    (envelope, events)
}

/// A run with a fixed seed and no arguments.
pub(crate) async fn play(source: &str, script: ScriptBackend) -> (Envelope, Arc<ScriptBackend>) {
    let script = Arc::new(script);
    let options = RunOptions {
        seed: Some(1),
        ..RunOptions::default()
    };
    let (envelope, _) = play_with(source, Value::Null, options, &script).await;
    (envelope, script)
}

/// The result of a run that must end well.
pub(crate) async fn result(source: &str, script: ScriptBackend) -> Value {
    let (envelope, _) = play(source, script).await;
    assert_eq!(envelope.error, None, "{source}");
    envelope.result
}

/// The prompts of the generations, in order.
pub(crate) fn prompts(script: &ScriptBackend) -> Vec<String> {
    script
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Generate { prompt, .. } => Some(prompt),
            _ => None,
        })
        .collect()
}
