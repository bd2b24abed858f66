//! Replaying instances through a constraint, token by token, with the mask at every token.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use lmrun_grammar::{
    Constraint, GrammarError, JsonOptions, KeyOrder, Matcher, TokenMask, Vocabulary, Whitespace,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::{Case, Refusal, Report, Source};

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every valid instance is accepted to its end, every invalid one is not, in every spelling.
    Passed,
    /// A valid instance is refused.
    Over,
    /// An invalid instance is accepted, whatever else: the graver fault.
    Under,
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
            documents: Arc::clone(&case.documents),
        };
        let started = Instant::now();
        let compiled = case.source.compile(&options);
        let took = started.elapsed();
        let constraint = match compiled {
            Ok(constraint) => constraint,
            Err(refusal) if refusal.is_empty() => {
                return match case.tests.iter().any(|test| test.valid) {
                    true => Verdict::Over,
                    false => Verdict::Passed,
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
        for test in &case.tests {
            for text in spellings(&case.source, &test.data) {
                let accepted = self.accepts(constraint, &text)?;
                if accepted && !test.valid {
                    return Ok(Verdict::Under);
                }
                if test.valid && !accepted {
                    verdict = Verdict::Over;
                }
            }
        }
        Ok(verdict)
    }

    /// Whether the text's tokens are legal one after the other and the output is then complete.
    fn accepts(&mut self, constraint: &Constraint, text: &str) -> Result<bool, String> {
        let tokens = self.vocabulary.cut(text.as_bytes());
        let tokens = tokens.ok_or("a byte of the instance has no token")?;
        // Making a matcher may find its first mask, so it is a part of that mask's time.
        let mut started = Instant::now();
        let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&self.vocabulary))
            .map_err(|error| error.to_string())?;
        for token in tokens {
            let masked = matcher.mask(&mut self.mask);
            self.report.mask.push(started.elapsed());
            masked.map_err(|error| error.to_string())?;
            if !self.mask.is_allowed(token) {
                return Ok(false);
            }
            matcher
                .accept(token)
                .map_err(|error| contradiction(&error))?;
            started = Instant::now();
        }
        Ok(matcher.is_complete())
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
