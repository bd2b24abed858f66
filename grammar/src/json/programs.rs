//! The regexes of patterns, compiled for how their texts are written.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::HashMap;
use regex_syntax::hir::Hir;

use crate::json::{escape, formats};
use crate::regex::program::Program;
use crate::regex::syntax;
use crate::regex::words::searched_words;
use crate::{GrammarError, Limits};

/// How the texts of an automaton are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spelling {
    /// As JSON strings, in any way.
    Json,
    /// As names are, so that equal ones have equal bytes: in one way.
    Name,
    /// As they are.
    Text,
}

/// A regex, compiled when it is first needed.
#[derive(Clone, Debug)]
pub(crate) enum Regex {
    /// Searched for in the characters, with what it is compiled to by the spelling.
    Search(Hir, [Option<Arc<Program>>; 3]),
    /// Over the JSON spelling already.
    Spelled(Hir),
    Program(Arc<Program>),
}

impl Regex {
    /// The compiled regex, whose bytes are taken from the limit the first time.
    pub(crate) fn program(
        &mut self,
        spelling: Spelling,
        limits: &mut Limits,
    ) -> Result<Arc<Program>, GrammarError> {
        let counted = |program: Program, limits: &mut Limits| {
            limits.nfa_bytes = limits.nfa_bytes.saturating_sub(program.n_bytes());
            Arc::new(program)
        };
        match self {
            Self::Program(program) => Ok(Arc::clone(program)),
            Self::Spelled(hir) => {
                let program = counted(Program::new(hir, limits)?, limits);
                *self = Self::Program(Arc::clone(&program));
                Ok(program)
            }
            Self::Search(hir, known) => {
                let known = &mut known[spelling as usize];
                if let Some(known) = known {
                    return Ok(Arc::clone(known));
                }
                let spelled = match spelling {
                    Spelling::Json => escape::search(hir),
                    Spelling::Name => escape::plain(&syntax::searched(hir)),
                    Spelling::Text => syntax::searched(hir),
                };
                let program = match syntax::may_go_on(hir) {
                    true => Program::ending_in_any_text(&spelled, limits)?,
                    false => Program::new(&spelled, limits)?,
                };
                let program = Program {
                    words: searched_words(hir),
                    ..program
                };
                let program = counted(program, limits);
                Ok(Arc::clone(known.insert(program)))
            }
        }
    }
}

/// Every string.
static ANYTHING: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let program = Program::new(&escape::anything(), &Limits::default());
    Arc::new(program.expect("any text is a small regex"))
});

/// Every name that is not declared: names have one spelling, so that equal ones have equal bytes.
static ANY_NAME: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let program = Program::new(&escape::plain(&escape::any_text()), &Limits::default());
    Arc::new(program.expect("any name is a small regex"))
});

/// Every text.
static ANY_TEXT: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let program = Program::new(&escape::any_text(), &Limits::default());
    Arc::new(program.expect("any text is a small regex"))
});

impl Spelling {
    /// All that is so spelled.
    pub(crate) fn anything(self) -> Arc<Program> {
        Arc::clone(match self {
            Self::Json => &ANYTHING,
            Self::Name => &ANY_NAME,
            Self::Text => &ANY_TEXT,
        })
    }
}

/// The formats that some schema has asked for. There are seventeen.
static FORMATS: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// The compiled regex of a format; `None` if it is not one of the standard's.
pub(crate) fn format_program(name: &str) -> Option<Arc<Program>> {
    let mut known = FORMATS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return Some(Arc::clone(known));
    }
    let hir = escape::plain(&formats::hir(name)?);
    let program = Program::new(&hir, &Limits::default());
    let program = Arc::new(program.expect("a format is a small regex"));
    known.insert(name.to_owned(), Arc::clone(&program));
    Some(program)
}
