//! Tools: what is offered, which may be called, and how a model without tools in its template is told of them.
//!
//! Calls are in the Hermes format (NousResearch/Hermes-Function-Calling), which Qwen's templates use too:
//! `<tool_call>\n{"name": .., "arguments": ..}\n</tool_call>`.

use std::fmt::Write;

use lmrun_grammar::Constraint;
use serde_json::{Map, Value, json};

use super::constraint::{Format, Language, compile};
use super::fields::{Fields, wrong};
use crate::error::ApiError;

/// What opens a call. Without its line break it ends the text before the call.
pub(crate) const OPENING: &str = "<tool_call>";
/// What closes a call, after its arguments.
pub(crate) const CLOSING: &str = "}\n</tool_call>";
/// Between one call and the next.
pub(crate) const BETWEEN: &str = "\n<tool_call>\n";

/// Tools of one request, and calls of one answer.
const MAX_TOOLS: usize = 128;
pub(crate) const MAX_CALLS: usize = 16;
const MAX_NAME_BYTES: usize = 128;

/// An offered tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The schema of its arguments, and where the request holds it.
    parameters: Format,
    /// As it is shown to the model: `{type, function: {name, description, parameters}}`.
    pub(crate) shown: Value,
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// None: the tools are not even shown.
    Never,
    /// The model chooses between an answer and calls.
    Auto,
    /// At least one call of any tool.
    Required,
    /// One call of the tool with this index.
    Named(usize),
}

/// A tool that can be called, its arguments' schema compiled.
#[derive(Debug, Clone)]
pub(crate) struct Callable {
    pub(crate) name: String,
    pub(crate) arguments: Constraint,
}

/// The request's tools.
pub(crate) fn read(body: Fields) -> Result<Vec<Tool>, ApiError> {
    let tools = body.list("tools")?.map_or(&[][..], Vec::as_slice);
    if tools.len() > MAX_TOOLS {
        let message = format!(
            "tools holds {} tools, the limit is {MAX_TOOLS}",
            tools.len()
        );
        return Err(ApiError::invalid("tools", message));
    }
    let mut read: Vec<Tool> = Vec::with_capacity(tools.len());
    for (idx, tool) in tools.iter().enumerate() {
        let path = format!("tools[{idx}]");
        let tool = read_tool(Fields::new(tool, &path)?)?;
        if read.iter().any(|other| other.name == tool.name) {
            let message = format!("the tool `{}` is there twice", tool.name);
            return Err(ApiError::invalid(format!("{path}.function.name"), message));
        }
        read.push(tool);
    }
    Ok(read)
}

fn read_tool(tool: Fields) -> Result<Tool, ApiError> {
    let kind = tool.required_text("type")?;
    if kind != "function" {
        let message = format!("tools of the type `{kind}` are not served, only `function`");
        return Err(ApiError::unsupported(tool.at("type"), message));
    }
    let path = tool.at("function");
    let function = Fields::new(tool.get("function").unwrap_or(&Value::Null), &path)?;
    let name = function.required_text("name")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
        let alphabet = "ASCII letters, digits and _ - . : /";
        let message = format!("a tool's name must be 1..={MAX_NAME_BYTES} {alphabet}");
        return Err(ApiError::invalid(function.at("name"), message));
    }
    // A function without parameters takes none.
    let none = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), json!({})),
        ("additionalProperties".to_owned(), json!(false)),
    ]);
    let parameters = Value::Object(function.object("parameters")?.cloned().unwrap_or(none));
    let description = function.text("description")?.unwrap_or_default();
    let shown = json!({ "type": "function", "function": {
        "name": name, "description": description, "parameters": parameters,
    }});
    let parameters = Format {
        path: function.at("parameters"),
        language: Language::Json(parameters),
    };
    Ok(Tool {
        name: name.to_owned(),
        parameters,
        shown,
    })
}

/// The request's `tool_choice`. Without tools there is nothing to choose: some clients say `required` all the same.
pub(crate) fn read_choice(body: Fields, tools: &[Tool]) -> Result<Choice, ApiError> {
    const PATH: &str = "tool_choice";
    let Some(value) = body.get(PATH) else {
        return Ok(if tools.is_empty() {
            Choice::Never
        } else {
            Choice::Auto
        });
    };
    let choice = match value {
        Value::String(choice) => match choice.as_str() {
            "none" => Choice::Never,
            "auto" => Choice::Auto,
            "required" => Choice::Required,
            other => {
                let expected = "`none`, `auto`, `required` or {\"type\": \"function\", ..}";
                let message = format!("tool_choice is `{other}`, it must be {expected}");
                return Err(ApiError::invalid(PATH, message));
            }
        },
        Value::Object(_) => named_choice(Fields::new(value, PATH)?, tools)?,
        other => return Err(wrong(PATH, "a string or an object", other)),
    };
    Ok(if tools.is_empty() {
        Choice::Never
    } else {
        choice
    })
}

fn named_choice(choice: Fields, tools: &[Tool]) -> Result<Choice, ApiError> {
    let kind = choice.required_text("type")?;
    if kind != "function" {
        let message = format!("the type `{kind}` is not served, only `function`");
        return Err(ApiError::unsupported(choice.at("type"), message));
    }
    let path = choice.at("function");
    let function = Fields::new(choice.get("function").unwrap_or(&Value::Null), &path)?;
    let name = function.required_text("name")?;
    tools
        .iter()
        .position(|tool| tool.name == name)
        .map(Choice::Named)
        .ok_or_else(|| {
            let message = format!("there is no tool `{name}` in tools");
            ApiError::invalid(function.at("name"), message)
        })
}

/// Compiles the tools' schemas. This can take a while.
pub(crate) fn callables(tools: &[Tool]) -> Result<Vec<Callable>, ApiError> {
    tools
        .iter()
        .map(|tool| {
            let arguments = compile(&tool.parameters)?.with_prefix(b" ");
            Ok(Callable {
                name: tool.name.clone(),
                arguments,
            })
        })
        .collect()
}

/// Rewrites messages for a template that knows no tools: the offered ones go into the system message, past calls and
/// their results into plain text.
pub(crate) fn as_plain_messages(messages: Vec<Value>, tools: &[Tool]) -> Vec<Value> {
    let mut plain: Vec<Value> = messages.into_iter().map(as_plain_message).collect();
    if tools.is_empty() {
        return plain;
    }
    let prompt = tool_prompt(tools);
    match plain.first_mut() {
        Some(first) if first["role"] == "system" => {
            let own = first["content"].as_str().unwrap_or_default();
            first["content"] = json!(format!("{own}\n\n{prompt}"));
        }
        _ => plain.insert(0, json!({ "role": "system", "content": prompt })),
    }
    plain
}

fn as_plain_message(message: Value) -> Value {
    let content = message["content"].as_str().unwrap_or_default();
    if message["role"] == "tool" {
        let content = format!("<tool_response>\n{content}\n</tool_response>");
        return json!({ "role": "user", "content": content });
    }
    let Some(calls) = message["tool_calls"].as_array() else {
        return message;
    };
    let mut text = content.to_owned();
    for call in calls {
        let (name, arguments) = (&call["function"]["name"], &call["function"]["arguments"]);
        let gap = if text.is_empty() { "" } else { "\n" };
        write!(
            text,
            "{gap}{OPENING}\n{{\"name\": {name}, \"arguments\": {arguments}{CLOSING}"
        )
        .expect("writing to a string cannot fail");
    }
    json!({ "role": "assistant", "content": text })
}

/// The tool prompt of Hermes, as Qwen's templates word it.
fn tool_prompt(tools: &[Tool]) -> String {
    let signatures: Vec<String> = tools.iter().map(|tool| tool.shown.to_string()).collect();
    let signatures = signatures.join("\n");
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with \
         function signatures within <tools></tools> XML tags:\n<tools>\n{signatures}\n</tools>\n\nFor each function \
         call, return a json object with function name and arguments within <tool_call></tool_call> XML \
         tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>"
    )
}
