//! The checker: everything that can be known before the first token.
//!
//! It walks the tree once, item by item, and keeps what is in sight (`scope`), what values can be (`ty`) and where text
//! may be appended (`emit`). What it says is certain: where nothing is known, nothing is said. Names that stood in a
//! statement the parser lost count as defined.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::ast::{Callable, File, ItemKind, Role, Span, Type};
use crate::program::Types;
use crate::{Diagnostic, Program, syntax};

mod call;
mod emit;
mod expr;
mod hints;
mod items;
mod options;
mod parts;
mod scope;
mod stmt;
mod suggest;
#[cfg(test)]
mod tests;
mod texts;
mod ty;
mod types;
mod values;

use scope::Scopes;
use ty::{Judge, Ty};

/// The most errors of one file, and the most other findings.
const MAX_FINDINGS: usize = 200;

/// What the checker asks about constraints it cannot judge itself. Shared with the thread that does the work.
pub trait Host: Sync {
    /// Whether the pattern can be honoured as a constraint; the reason if not.
    fn regex(&self, pattern: &str) -> Result<(), String>;
    /// Whether the schema can be honoured; the JSON pointer of the offending keyword and the reason if not.
    fn schema(&self, schema: &Value) -> Result<(), (String, String)>;
}

/// A host that accepts every constraint.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn regex(&self, _pattern: &str) -> Result<(), String> {
        Ok(())
    }

    fn schema(&self, _schema: &Value) -> Result<(), (String, String)> {
        Ok(())
    }
}

/// What checking a file came to.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The program, if and only if no finding is an error.
    pub program: Option<Program>,
    /// All findings, sorted by their place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses and checks a file.
pub fn check(file_name: &str, source: &str, host: &dyn Host) -> Checked {
    syntax::with_stack(source, || check_here(file_name, source, host))
}

fn check_here(file_name: &str, source: &str, host: &dyn Host) -> Checked {
    let parsed = syntax::parse_all(source);
    let lost = parsed.lost_words.iter().map(String::as_str).collect();
    let mut checker = Checker::new(source, &parsed.file, host, lost);
    checker.file();
    let mut diagnostics = checker.out;
    diagnostics.extend(parsed.diagnostics);
    diagnostics.sort_by_key(|found| (found.span.start, found.span.end, found.code));
    diagnostics.dedup();
    let ok = !diagnostics.iter().any(Diagnostic::is_error);
    let program = ok.then(|| Program::new(file_name, source, parsed.file));
    Checked {
        program,
        diagnostics,
    }
}

/// What a body belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Home<'p> {
    /// The file's own statements.
    Top,
    Fn(&'p Callable),
    Part(&'p Callable),
}

/// The branch a place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    Fork,
    Best,
}

/// An input, and whether anything reads it.
struct Global<'p> {
    ty: &'p Type,
    span: Span,
    is_used: bool,
}

struct Checker<'p, 'h> {
    source: &'p str,
    file: &'p File,
    host: &'h dyn Host,
    types: Types<'p>,
    lost: HashSet<&'p str>,
    out: Vec<Diagnostic>,
    n_errors: usize,
    n_others: usize,
    inputs: HashMap<&'p str, Global<'p>>,
    callables: HashMap<&'p str, &'p Callable>,
    parts: HashMap<&'p str, parts::Summary>,
    tools: HashSet<&'p str>,
    /// Types of which no value could ever end.
    endless: HashSet<&'p str>,
    /// Types, functions and parts that something mentions.
    mentioned: HashSet<String>,
    /// Types shown by `format`.
    shown: HashSet<String>,
    /// Generations of record types, and the type to show for each.
    unshown: Vec<(&'p str, Span)>,
    /// Plain completion: no roles, text appends anywhere.
    is_plain: bool,
    heal_off: bool,
    budget_tokens: Option<i64>,
    // Of the body being checked:
    home: Home<'p>,
    scopes: Scopes,
    role: Option<Role>,
    branches: Vec<Branch>,
    /// What the branches around yield.
    yields: Vec<Option<Ty>>,
    /// The last text appended in this turn ends with a space.
    ends_in_space: bool,
}

impl<'p, 'h> Checker<'p, 'h> {
    fn new(source: &'p str, file: &'p File, host: &'h dyn Host, lost: HashSet<&'p str>) -> Self {
        Checker {
            source,
            file,
            host,
            types: Types::new(file),
            lost,
            out: Vec::new(),
            n_errors: 0,
            n_others: 0,
            inputs: HashMap::new(),
            callables: HashMap::new(),
            parts: parts::summaries(file),
            tools: HashSet::new(),
            endless: HashSet::new(),
            mentioned: HashSet::new(),
            shown: HashSet::new(),
            unshown: Vec::new(),
            is_plain: false,
            heal_off: false,
            budget_tokens: None,
            home: Home::Top,
            scopes: Scopes::new(),
            role: None,
            branches: Vec::new(),
            yields: Vec::new(),
            ends_in_space: false,
        }
    }

    fn file(&mut self) {
        let file = self.file;
        self.declare();
        for item in &file.items {
            self.item(item);
        }
        self.scopes = Scopes::new();
        self.statements(&file.body);
        self.unused_bindings();
        for item in &file.items {
            match &item.kind {
                ItemKind::Fn(callable) => self.callable(Home::Fn(callable)),
                ItemKind::Part(callable) => self.callable(Home::Part(callable)),
                _ => {}
            }
        }
        self.pins();
        self.unused_items();
        self.never_shown();
        self.bidi();
    }

    /// Whether more would not be kept: what is costly to say is then left out.
    fn is_full(&self) -> bool {
        self.n_errors >= MAX_FINDINGS
    }

    /// Keeps a finding. Errors have room of their own: no number of warnings hides one.
    fn report(&mut self, found: Diagnostic) {
        let n_found = if found.is_error() {
            &mut self.n_errors
        } else {
            &mut self.n_others
        };
        *n_found += 1;
        if *n_found <= MAX_FINDINGS {
            self.out.push(found);
        }
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        let found = Diagnostic::new(code, span, message);
        self.report(if help.is_empty() {
            found
        } else {
            found.help(help)
        });
    }

    fn judge(&self) -> Judge<'_, 'p> {
        Judge::new(&self.types)
    }

    fn text(&self, span: Span) -> &'p str {
        self.source.get(span.start..span.end).unwrap_or_default()
    }
}
