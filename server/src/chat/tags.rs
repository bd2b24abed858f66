//! Structural tags in a request: free text in which constrained spans begin at triggers.
//!
//! Two forms are read: `{type, structures: [{begin, schema, end}], triggers}`, as SGLang and older vLLM have it, and
//! XGrammar's `{type, format}` whose format is of the type `triggered_tags` and whose contents are of the types
//! `json_schema`, `regex` and `grammar`.

use lmrun_grammar::{Constraint, StructuralTag, StructuralTags};
use serde_json::Value;

use super::constraint::{Format, Language, compile, grammar, refuse, schema};
use super::fields::{Fields, wrong};
use crate::error::ApiError;
use crate::limits::grammar_limits;

/// Tags whose contents are not compiled yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tags {
    pub(crate) triggers: Vec<String>,
    pub(crate) tags: Vec<Tag>,
    /// Whether free text alone is no answer.
    pub(crate) at_least_one: bool,
    pub(crate) stop_after_first: bool,
}

/// One tag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tag {
    pub(crate) begin: String,
    pub(crate) content: Format,
    pub(crate) end: String,
}

/// Reads what stands at `path`, of the type `structural_tag`.
pub(crate) fn read(value: &Value, path: &str) -> Result<Tags, ApiError> {
    let fields = Fields::new(value, path)?;
    let Some(format) = fields.get("format") else {
        return structures(fields);
    };
    let path = fields.at("format");
    let fields = Fields::new(format, &path)?;
    match fields.required_text("type")? {
        "triggered_tags" => triggered_tags(fields),
        other => {
            let message = format!("the type `{other}` is not served: `triggered_tags` is");
            Err(ApiError::unsupported(fields.at("type"), message))
        }
    }
}

fn structures(fields: Fields) -> Result<Tags, ApiError> {
    let tags = each(&fields, "structures", |tag| {
        let path = tag.at("schema");
        let schema = schema(tag.get("schema").unwrap_or(&Value::Null), &path)?;
        Ok(Tag {
            begin: tag.required_text("begin")?.to_owned(),
            content: Format {
                path,
                language: Language::Json(schema),
            },
            end: tag.required_text("end")?.to_owned(),
        })
    })?;
    Ok(Tags {
        triggers: triggers(&fields)?,
        tags,
        at_least_one: false,
        stop_after_first: false,
    })
}

fn triggered_tags(fields: Fields) -> Result<Tags, ApiError> {
    let tags = each(&fields, "tags", |tag| {
        let path = tag.at("content");
        let content = Fields::new(tag.get("content").unwrap_or(&Value::Null), &path)?;
        Ok(Tag {
            begin: tag.required_text("begin")?.to_owned(),
            content: read_content(content)?,
            end: tag.required_text("end")?.to_owned(),
        })
    })?;
    Ok(Tags {
        triggers: triggers(&fields)?,
        tags,
        at_least_one: fields.flag("at_least_one")?.unwrap_or(false),
        stop_after_first: fields.flag("stop_after_first")?.unwrap_or(false),
    })
}

fn read_content(content: Fields) -> Result<Format, ApiError> {
    let (name, language) = match content.required_text("type")? {
        "json_schema" => {
            let path = content.at("json_schema");
            let given = content.get("json_schema").unwrap_or(&Value::Null);
            ("json_schema", Language::Json(schema(given, &path)?))
        }
        "regex" => {
            let pattern = content.required_text("pattern")?.to_owned();
            ("pattern", Language::Regex(pattern))
        }
        "grammar" => ("grammar", grammar(content.required_text("grammar")?)),
        other => {
            let message = format!(
                "the type `{other}` is not served: `json_schema`, `regex` and `grammar` are"
            );
            return Err(ApiError::unsupported(content.at("type"), message));
        }
    };
    Ok(Format {
        path: content.at(name),
        language,
    })
}

fn each(
    fields: &Fields,
    name: &str,
    read: impl Fn(Fields) -> Result<Tag, ApiError>,
) -> Result<Vec<Tag>, ApiError> {
    let path = fields.at(name);
    let items = fields.list(name)?;
    let items = items.ok_or_else(|| ApiError::invalid(&*path, format!("{path} is missing")))?;
    let tags = items.iter().enumerate();
    tags.map(|(idx, tag)| read(Fields::new(tag, &format!("{path}[{idx}]"))?))
        .collect()
}

fn triggers(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let path = fields.at("triggers");
    let items = fields.list("triggers")?;
    let items = items.ok_or_else(|| ApiError::invalid(&*path, format!("{path} is missing")))?;
    let text = |item: &Value| item.as_str().map(str::to_owned);
    items
        .iter()
        .map(|item| text(item).ok_or_else(|| wrong(&path, "an array of strings", item)))
        .collect()
}

/// Compiles tags and their contents.
pub(crate) fn compile_tags(tags: &Tags, path: &str) -> Result<Constraint, ApiError> {
    let compiled = tags.tags.iter().map(|tag| {
        Ok::<_, ApiError>(StructuralTag {
            begin: tag.begin.clone(),
            content: compile(&tag.content)?,
            end: tag.end.clone(),
        })
    });
    let tags = StructuralTags {
        triggers: tags.triggers.clone(),
        tags: compiled.collect::<Result<_, _>>()?,
        at_least: u32::from(tags.at_least_one),
        stop_after_first: tags.stop_after_first,
        ..StructuralTags::default()
    };
    Constraint::structural_tags(&tags, &grammar_limits()).map_err(|error| refuse(path, &error))
}
