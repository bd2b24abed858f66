//! What the answer must look like: `response_format`, and the dialects of other servers that clients speak.
//!
//! vLLM: `structured_outputs` and the older `guided_*`. SGLang: `regex`, `json_schema`, `ebnf`. llama.cpp: `json_schema`,
//! `grammar`, and `response_format` of the type `json_object` with a `schema`. A grammar is GBNF, which the others call
//! EBNF, or Lark: the first rule's `::=` or `:` tells.

use std::sync::LazyLock;

use lmrun_grammar::{Constraint, ConstraintCache, GrammarError};
use serde_json::{Value, json};

use super::fields::{Fields, wrong};
use super::tags::{self, Tags};
use crate::error::ApiError;
use crate::limits::grammar_limits;

/// Every field that constrains the answer; a request may use one.
pub(crate) const DIALECTS: &[&str] = &[
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "regex",
    "json_schema",
    "ebnf",
    "grammar",
];

/// What the answer must be, and the path of the field that says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Format {
    pub(crate) path: String,
    pub(crate) language: Language,
}

/// The kinds of formats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Language {
    /// A JSON text of this schema.
    Json(Value),
    Regex(String),
    Choice(Vec<String>),
    Gbnf(String),
    Lark(String),
    Tags(Box<Tags>),
}

/// The request's format, if it has one.
pub(crate) fn read(body: Fields) -> Result<Option<Format>, ApiError> {
    let mut formats = Vec::new();
    for &dialect in DIALECTS {
        if let Some(value) = body.get(dialect)
            && let Some(format) = read_dialect(dialect, value)?
        {
            formats.push((dialect, format));
        }
    }
    if let [(first, _), (second, _), ..] = formats.as_slice() {
        let message = format!("{first} and {second} both constrain the answer: give one");
        return Err(ApiError::invalid(*second, message));
    }
    Ok(formats.pop().map(|(_, format)| format))
}

fn read_dialect(dialect: &str, value: &Value) -> Result<Option<Format>, ApiError> {
    let format = |language| {
        Ok(Some(Format {
            path: dialect.to_owned(),
            language,
        }))
    };
    match dialect {
        "response_format" => response_format(value),
        "structured_outputs" => structured_outputs(value),
        "guided_json" | "json_schema" => format(Language::Json(schema(value, dialect)?)),
        "guided_regex" | "regex" => format(Language::Regex(text(value, dialect)?)),
        "guided_choice" => format(Language::Choice(choices(value, dialect)?)),
        "guided_grammar" | "ebnf" | "grammar" => format(grammar(&text(value, dialect)?)),
        _ => unreachable!("every dialect is read"),
    }
}

fn response_format(value: &Value) -> Result<Option<Format>, ApiError> {
    const PATH: &str = "response_format";
    let fields = Fields::new(value, PATH)?;
    let json = |path: String, schema| {
        Some(Format {
            path,
            language: Language::Json(schema),
        })
    };
    match fields.required_text("type")? {
        "text" => Ok(None),
        "json_object" => Ok(match fields.get("schema") {
            Some(given) => {
                let path = fields.at("schema");
                let schema = schema(given, &path)?;
                json(path, schema)
            }
            None => json(PATH.to_owned(), json!({ "type": "object" })),
        }),
        "json_schema" => {
            let path = fields.at("json_schema");
            let inner = Fields::new(fields.get("json_schema").unwrap_or(&Value::Null), &path)?;
            let path = inner.at("schema");
            let schema = schema(inner.get("schema").unwrap_or(&Value::Null), &path)?;
            Ok(json(path, schema))
        }
        "structural_tag" => Ok(Some(Format {
            path: PATH.to_owned(),
            language: Language::Tags(Box::new(tags::read(value, PATH)?)),
        })),
        other => {
            let served = "`text`, `json_object`, `json_schema` and `structural_tag`";
            let message = format!("the type `{other}` is not served; {served} are");
            Err(ApiError::unsupported(fields.at("type"), message))
        }
    }
}

/// What `structured_outputs` can hold.
const STRUCTURED: &str = "`json`, `regex`, `choice`, `grammar` and `structural_tag`";

fn structured_outputs(value: &Value) -> Result<Option<Format>, ApiError> {
    const PATH: &str = "structured_outputs";
    let fields = Fields::new(value, PATH)?;
    let names: Vec<&str> = fields.names().collect();
    let [name] = names.as_slice() else {
        let message = format!("{PATH} must hold one of {STRUCTURED}");
        return Err(ApiError::invalid(PATH, message));
    };
    let path = fields.at(name);
    let value = fields.get(name).expect("names of fields that are there");
    let language = match *name {
        "json" => Language::Json(schema(value, &path)?),
        "regex" => Language::Regex(text(value, &path)?),
        "choice" => Language::Choice(choices(value, &path)?),
        "grammar" => grammar(&text(value, &path)?),
        "structural_tag" => {
            let given = object_or_text(value, &path)?;
            Language::Tags(Box::new(tags::read(&given, &path)?))
        }
        other => {
            let message = format!("`{other}` is not served: {STRUCTURED} are");
            return Err(ApiError::unsupported(path, message));
        }
    };
    Ok(Some(Format { path, language }))
}

/// A schema, or its text.
pub(crate) fn schema(value: &Value, path: &str) -> Result<Value, ApiError> {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::Object(_) | Value::String(_) => object_or_text(value, path),
        _ => Err(wrong(path, "a JSON schema", value)),
    }
}

/// An object, or the JSON text of one.
fn object_or_text(value: &Value, path: &str) -> Result<Value, ApiError> {
    match value {
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(path, format!("{path} is not JSON: {error}"))),
        _ => Ok(value.clone()),
    }
}

/// A grammar in the dialect that its first rule is written in.
pub(crate) fn grammar(source: &str) -> Language {
    let is_rule = |line: &&str| !line.is_empty() && !line.starts_with(['#', '/', '%']);
    let first = source.lines().map(str::trim).find(is_rule);
    let name_ends = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '?' | '!'));
    let after_name = first.map_or("", |line| line.trim_start_matches(|c| !name_ends(c)));
    match after_name.trim_start().starts_with("::=") {
        true => Language::Gbnf(source.to_owned()),
        false => Language::Lark(source.to_owned()),
    }
}

fn text(value: &Value, path: &str) -> Result<String, ApiError> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| wrong(path, "a string", value))
}

fn choices(value: &Value, path: &str) -> Result<Vec<String>, ApiError> {
    let items = value
        .as_array()
        .ok_or_else(|| wrong(path, "an array of strings", value))?;
    items.iter().map(|item| text(item, path)).collect()
}

/// Bytes of the constraints kept for other requests.
const MAX_KEPT_BYTES: usize = 256 << 20;

/// Compiles a format, if it is not kept from a request before. This can take a while: not for a thread that serves others.
pub(crate) fn compile(format: &Format) -> Result<Constraint, ApiError> {
    static KEPT: LazyLock<ConstraintCache> = LazyLock::new(|| ConstraintCache::new(MAX_KEPT_BYTES));
    let limits = grammar_limits();
    let kept =
        |kind: &str, source: &str, compile: &dyn Fn() -> Result<Constraint, GrammarError>| {
            KEPT.get_or_compile(&format!("{kind} {source}"), compile)
        };
    let compiled = match &format.language {
        Language::Json(schema) => kept("json", &schema.to_string(), &|| {
            Constraint::json_schema(schema, &limits)
        }),
        Language::Regex(pattern) => kept("regex", pattern, &|| Constraint::regex(pattern, &limits)),
        Language::Choice(options) => Constraint::choices(options, &limits),
        Language::Gbnf(source) => kept("gbnf", source, &|| Constraint::gbnf(source, &limits)),
        Language::Lark(source) => kept("lark", source, &|| Constraint::lark(source, &limits)),
        Language::Tags(tags) => return tags::compile_tags(tags, &format.path),
    };
    compiled.map_err(|error| refuse(&format.path, &error))
}

/// The error of a constraint that stands at `path`; a place within a schema is a JSON pointer after it.
pub(crate) fn refuse(path: &str, error: &GrammarError) -> ApiError {
    let param = match error {
        GrammarError::Schema { pointer, .. } => format!("{path}{pointer}"),
        _ => path.to_owned(),
    };
    let mut refused = ApiError::invalid(param, format!("{path}: {error}"));
    refused.code = Some("constraint_invalid");
    refused
}
