//! Chat templates: messages to the text that a checkpoint was trained on.
//!
//! Templates are Jinja as Hugging Face runs it (`chat_template_utils.py` of Transformers): blocks
//! trimmed, loop controls, Python's methods and its way to print values, and `tojson`,
//! `raise_exception` and `strftime_now` of its own. They reach no file, and what they may compute and
//! print is bounded.

mod python;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value;

use crate::ModelError;

/// Steps of a template; the longest known takes some hundred for each message.
const MAX_STEPS: u64 = 20_000_000;
/// Bytes of a rendered prompt.
const MAX_OUTPUT: usize = 64 << 20;
/// Bytes of a template's source; the longest known has some 20 thousand.
const MAX_SOURCE: usize = 1 << 20;
/// The name under which the one template is kept.
const NAME: &str = "chat";

/// A compiled chat template.
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// Names of special tokens, as `bos_token`.
    special_tokens: Vec<(String, String)>,
}

/// What `raise_exception` was called with.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables that it may print: `bos_token` and the like,
    /// each with its text.
    ///
    /// # Errors
    /// [`ModelError::Template`] if it does not parse.
    pub fn new(source: &str, special_tokens: Vec<(String, String)>) -> Result<Self, ModelError> {
        if source.len() > MAX_SOURCE {
            let n_bytes = source.len();
            return Err(ModelError::Template(format!(
                "{n_bytes} bytes, at most {MAX_SOURCE}"
            )));
        }
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        let syntax = syntax
            .build()
            .map_err(|error| ModelError::Template(describe(&error)))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(MAX_STEPS));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, _, value| {
            out.write_str(&python::print(value)).map_err(Error::from)
        });
        environment.add_filter("tojson", to_json);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Jinja, Error> {
                let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
                Err(error.with_source(Raised(message)))
            },
        );
        environment.add_function("strftime_now", |format: &str| {
            let since_epoch = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            python::strftime(format, since_epoch.as_secs()).map_err(invalid)
        });
        let compiled = environment.add_template_owned(NAME, without_generation_tags(source));
        compiled.map_err(|error| ModelError::Template(describe(&error)))?;
        Ok(Self {
            source: source.to_owned(),
            environment,
            special_tokens,
        })
    }

    /// The template's text, as the checkpoint holds it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages` (an array of objects with `role` and `content`) and `tools`.
    ///
    /// # Errors
    /// [`ModelError::TemplateRaised`] with the template's own words, or [`ModelError::Template`].
    pub fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let mut values = serde_json::Map::new();
        for (name, text) in &self.special_tokens {
            values.insert(name.clone(), Value::from(text.as_str()));
        }
        values.insert("messages".into(), messages.clone());
        values.insert("tools".into(), tools.cloned().unwrap_or(Value::Null));
        values.insert("documents".into(), Value::Null);
        values.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let values = Jinja::from(Serde(&values));
        let template = self
            .environment
            .get_template(NAME)
            .expect("added when it was compiled");
        let mut output = Bounded::default();
        match template.render_captured_to(values, &mut output) {
            Ok(_) => String::from_utf8(output.bytes)
                .map_err(|_| ModelError::Template("the output is not UTF-8".into())),
            Err(_) if output.is_full => Err(ModelError::Template(format!(
                "more than {MAX_OUTPUT} bytes of output"
            ))),
            Err(error) => Err(raised(&error)),
        }
    }
}

/// The template's own words if it raised them, else what went wrong where.
fn raised(error: &Error) -> ModelError {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return ModelError::TemplateRaised(message.clone());
        }
        cause = inner.source();
    }
    ModelError::Template(describe(error))
}

fn describe(error: &Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
/// Hugging Face's `tojson`: Python's `json.dumps`, nothing escaped for HTML.
fn to_json(value: &Jinja, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(invalid("tojson of an undefined value".into()));
    }
    let indent = match options.get::<Option<Jinja>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => match (value.as_str(), usize::try_from(value.clone())) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Ok(n_spaces)) if n_spaces <= 64 => Some(" ".repeat(n_spaces)),
            _ => return Err(invalid(format!("tojson with indent {value}"))),
        },
    };
    let separators = match options.get::<Option<Vec<String>>>("separators")? {
        None => None,
        Some(separators) => match <[String; 2]>::try_from(separators) {
            Ok(separators) => Some(separators),
            Err(given) => return Err(invalid(format!("tojson with {} separators", given.len()))),
        },
    };
    let style = python::JsonStyle {
        indent,
        separators,
        escapes_non_ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        sorts_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let json = serde_json::to_value(value).map_err(|error| invalid(error.to_string()))?;
    Ok(python::json(&json, &style))
}

/// `{% generation %}` marks for training what the assistant said. It prints what is inside, as an `if`
/// that always holds does, which keeps its white space control.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}");
        match word.trim_matches(['-', '+', ' ', '\t', '\r', '\n']) {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Output up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.bytes.len() {
            self.is_full = true;
            return Err(io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
