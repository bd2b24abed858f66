//! Messages: whatever shape clients give them, as templates expect them.

use serde_json::{Map, Value, json};

use super::fields::{Fields, wrong};
use crate::error::ApiError;

/// The messages with roles `system`, `user`, `assistant` and `tool`, content as one string, and the arguments of past
/// calls as objects.
pub(crate) fn normalise(body: Fields) -> Result<Vec<Value>, ApiError> {
    let messages = body.list("messages")?.map_or(&[][..], Vec::as_slice);
    if messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "messages must hold at least one message",
        ));
    }
    messages
        .iter()
        .enumerate()
        .map(|(idx, message)| {
            let path = format!("messages[{idx}]");
            one(Fields::new(message, &path)?)
        })
        .collect()
}

fn one(message: Fields) -> Result<Value, ApiError> {
    let role = match message.required_text("role")? {
        "system" | "developer" => "system",
        role @ ("user" | "assistant" | "tool") => role,
        role => {
            let expected = "`system`, `developer`, `user`, `assistant` or `tool`";
            let text = format!("the role is `{role}`, it must be {expected}");
            return Err(ApiError::invalid(message.at("role"), text));
        }
    };
    for name in ["audio", "function_call"] {
        if message.get(name).is_some() {
            let text = format!("`{name}` in a message is not served");
            return Err(ApiError::unsupported(message.at(name), text));
        }
    }
    let mut normal = Map::new();
    normal.insert("role".to_owned(), json!(role));
    normal.insert("content".to_owned(), json!(content(message)?));
    for name in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(text) = message.text(name)? {
            normal.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(calls) = message.list("tool_calls")?
        && !calls.is_empty()
    {
        if role != "assistant" {
            let text = format!("a message of the role `{role}` cannot hold tool_calls");
            return Err(ApiError::invalid(message.at("tool_calls"), text));
        }
        normal.insert(
            "tool_calls".to_owned(),
            past_calls(calls, &message.at("tool_calls"))?,
        );
    }
    Ok(Value::Object(normal))
}

/// A string, a list of text parts (joined by line breaks), or nothing.
fn content(message: Fields) -> Result<String, ApiError> {
    let path = message.at("content");
    match message.get("content") {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let texts: Result<Vec<String>, ApiError> = parts
                .iter()
                .enumerate()
                .map(|(idx, part)| {
                    let path = format!("{path}[{idx}]");
                    part_text(Fields::new(part, &path)?)
                })
                .collect();
            Ok(texts?.join("\n"))
        }
        Some(other) => Err(wrong(&path, "a string or an array of parts", other)),
    }
}

fn part_text(part: Fields) -> Result<String, ApiError> {
    let text = match part.required_text("type")? {
        "text" => part.required_text("text")?,
        "refusal" => part.required_text("refusal")?,
        other => {
            let text = format!("parts of the type `{other}` are not served, only `text`");
            return Err(ApiError::unsupported(part.at("type"), text));
        }
    };
    Ok(text.to_owned())
}

fn past_calls(calls: &[Value], path: &str) -> Result<Value, ApiError> {
    calls
        .iter()
        .enumerate()
        .map(|(idx, call)| {
            let path = format!("{path}[{idx}]");
            let call = Fields::new(call, &path)?;
            let kind = call.text("type")?.unwrap_or("function");
            if kind != "function" {
                let text = format!("calls of the type `{kind}` are not served, only `function`");
                return Err(ApiError::unsupported(call.at("type"), text));
            }
            let id = call.text("id")?;
            let function_path = call.at("function");
            let function = call.get("function").unwrap_or(&Value::Null);
            let function = Fields::new(function, &function_path)?;
            let name = function.required_text("name")?;
            let arguments = past_arguments(function)?;
            let function = json!({ "name": name, "arguments": arguments });
            Ok(json!({ "id": id, "type": "function", "function": function }))
        })
        .collect()
}

/// The arguments as an object; clients send its text, and nothing at all for a call without any.
fn past_arguments(function: Fields) -> Result<Value, ApiError> {
    let given = match function.get("arguments") {
        None => return Ok(json!({})),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(json!({})),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(other) => Some(other.clone()),
    };
    given.filter(Value::is_object).ok_or_else(|| {
        let at = function.at("arguments");
        ApiError::invalid(
            at.clone(),
            format!("{at} must be the text of a JSON object"),
        )
    })
}
