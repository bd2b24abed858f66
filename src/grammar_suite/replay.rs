//! Replaying instances through a constraint, token by token, with the mask at every token.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Matcher, NumberSpelling, TokenMask,
    Vocabulary, Whitespace,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::{Case, Refusal, Report, Source};

/// Characters of an instance that a fault is told with.
const EXCERPT_CHARS: usize = 40;

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every valid instance is accepted to its end, every invalid one is not, in every spelling.
    Passed,
    /// A valid instance is refused; which, and where.
    Over(String),
    /// An invalid instance is accepted, whatever else: the graver fault; which.
    Under(String),
    /// The constraint was not compiled.
    Refused(Refusal),
    /// A limit was passed while it ran, or the code panicked.
    Error(String),
}

/// Judges cases and keeps count.
#[derive(Debug)]
pub struct Suite {
    vocabulary: Arc<Vocabulary>,
    key_order: KeyOrder,
    mask: TokenMask,
    report: Report,
}

impl Suite {
    /// Tokens are those of `vocabulary`, cut greedily.
    pub fn new(vocabulary: Arc<Vocabulary>, key_order: KeyOrder) -> Self {
        let mask = TokenMask::new(vocabulary.n_tokens());
        Self {
            vocabulary,
            key_order,
            mask,
            report: Report::default(),
        }
    }

    /// Judges a case.
    pub fn take(&mut self, case: &Case) -> Verdict {
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(case)));
        let verdict = judged.unwrap_or_else(|panic| Verdict::Error(said(panic.as_ref())));
        self.report.count(&case.name, &verdict);
        verdict
    }

    /// What came of all cases so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn judge(&mut self, case: &Case) -> Verdict {
        let options = JsonOptions {
            key_order: self.key_order,
            whitespace: Whitespace::Spaced,
            numbers: NumberSpelling::Any,
            documents: Arc::clone(&case.documents),
        };
        let started = Instant::now();
        let compiled = case.source.compile(&options);
        let took = started.elapsed();
        let constraint = match compiled {
            Ok(constraint) => constraint,
            Err(refusal) if refusal.is_empty() => {
                return match case.tests.iter().position(|test| test.valid) {
                    Some(test_idx) => Verdict::Over(format!("instance {test_idx}: {refusal}")),
                    None => Verdict::Passed,
                };
            }
            Err(refusal) => return Verdict::Refused(refusal),
        };
        self.report.compile.push(took);
        self.replay(case, &constraint)
            .unwrap_or_else(Verdict::Error)
    }

    fn replay(&mut self, case: &Case, constraint: &Constraint) -> Result<Verdict, String> {
        let mut verdict = Verdict::Passed;
        for (test_idx, test) in case.tests.iter().enumerate() {
            for text in spellings(&case.source, &test.data) {
                match (self.refused_at(constraint, &text)?, test.valid) {
                    (None, false) => {
                        return Ok(Verdict::Under(format!(
                            "instance {test_idx}: {}",
                            excerpt(&text, 0)
                        )));
                    }
                    (Some(byte), true) if verdict == Verdict::Passed => {
                        let rest = excerpt(&text, byte);
                        verdict =
                            Verdict::Over(format!("instance {test_idx}, byte {byte}: {rest}"));
                    }
                    _ => {}
                }
            }
        }
        Ok(verdict)
    }

    /// The first byte of the token that is not legal after those before it; the text's length if only its end is not.
    /// None if the text is accepted.
    fn refused_at(&mut self, constraint: &Constraint, text: &str) -> Result<Option<usize>, String> {
        let tokens = self.vocabulary.cut(text.as_bytes());
        let tokens = tokens.ok_or("a byte of the instance has no token")?;
        // Making a matcher may find its first mask, so it is a part of that mask's time.
        let mut started = Instant::now();
        let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&self.vocabulary))
            .map_err(|error| error.to_string())?;
        let mut n_bytes = 0;
        for token in tokens {
            let masked = matcher.mask(&mut self.mask);
            self.report.mask.push(started.elapsed());
            masked.map_err(|error| error.to_string())?;
            if !self.mask.is_allowed(token) {
                return Ok(Some(n_bytes));
            }
            matcher
                .accept(token)
                .map_err(|error| contradiction(&error))?;
            n_bytes += self.vocabulary.bytes(token).map_or(0, <[u8]>::len);
            started = Instant::now();
        }
        Ok((!matcher.is_complete()).then_some(n_bytes))
    }
}

/// The text from a byte on, as far as it helps.
fn excerpt(text: &str, byte: usize) -> String {
    // A token may begin within a character.
    let rest = String::from_utf8_lossy(&text.as_bytes()[byte..]);
    match rest.chars().nth(EXCERPT_CHARS) {
        Some(_) => rest
            .chars()
            .take(EXCERPT_CHARS)
            .chain("..".chars())
            .collect(),
        None if rest.is_empty() => "its end".into(),
        None => rest.into_owned(),
    }
}

fn contradiction(error: &GrammarError) -> String {
    match error {
        GrammarError::IllegalToken { token, .. } => {
            format!("the mask allows token {token}, which is then not accepted")
        }
        other => other.to_string(),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}

/// The texts an instance is replayed as: a value compact and with spaces after commas and colons, once if they are the
/// same; a string of a regex or grammar as it is.
fn spellings(source: &Source, data: &Value) -> Vec<String> {
    match (source, data) {
        (Source::Regex(_) | Source::Grammar(_), Value::String(text)) => vec![text.clone()],
        _ => {
            let compact = spell(data, CompactFormatter);
            let spaced = spell(data, Spaced);
            match compact == spaced {
                true => vec![compact],
                false => vec![compact, spaced],
            }
        }
    }
}

fn spell(data: &Value, formatter: impl Formatter) -> String {
    let mut text = Vec::new();
    data.serialize(&mut Serializer::with_formatter(&mut text, formatter))
        .expect("a JSON value can be written to memory");
    String::from_utf8(text).expect("JSON is written as UTF-8")
}

/// `{"a": [1, 2]}`
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
