//! Source text to syntax tree.
//!
//! The order of work: a linear scan bounds what the parser will recurse over and reports brackets and strings left
//! open (`scan`); pest reads the rest (`lmp.pest`); where it stops, the statement at fault is reported and blanked out
//! and the file read again (`recover`, `message`), so that one run finds every error; pairs become the tree
//! (`convert`, `text`, `number`).

use pest::Parser as _;

use crate::Diagnostic;
use crate::ast::{File, Span};

mod convert;
mod message;
mod number;
mod recover;
mod scan;
#[cfg(test)]
mod tests;
mod text;

/// The largest source, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The deepest nesting of brackets, holes and strings.
pub const MAX_DEPTH: usize = 128;

/// The nesting from which a source is read on a stack of its own, and that stack's size.
const DEEP: usize = 16;
const DEEP_STACK_BYTES: usize = 64 << 20;

/// The most calls of rules in one parse.
const MAX_CALLS: usize = 1 << 28;

#[derive(pest_derive::Parser)]
#[grammar = "syntax/lmp.pest"]
struct Lmp;

/// What reading a file came to.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) file: File,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Words of the parts that could not be read: they may have been definitions, so nothing is said about them.
    pub(crate) lost_words: Vec<String>,
}

/// Parses a file: the tree of everything that could be read, and every error met, sorted by place.
///
/// The tree misses the statements that are in error.
pub fn parse(source: &str) -> (File, Vec<Diagnostic>) {
    let parsed = with_stack(source, || parse_all(source));
    (parsed.file, parsed.diagnostics)
}

pub(crate) fn parse_all(source: &str) -> Parsed {
    if source.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, the limit is {MAX_BYTES}",
            source.len()
        );
        let error = Diagnostic::new("E005", Span::default(), message)
            .help("give long texts as inputs: `--arg name=@file`");
        return Parsed {
            diagnostics: vec![error],
            ..Parsed::default()
        };
    }
    recover::parse(source, scan::scan(source))
}

/// Does work that recurses over a source's nesting, on a stack that suffices for it.
///
/// The caller's may be small (a worker thread's); the depth is bounded, so this one is large enough.
pub(crate) fn with_stack<T: Send>(source: &str, work: impl FnOnce() -> T + Send) -> T {
    let is_deep = source.len() <= MAX_BYTES
        && scan::scan(source)
            .tokens
            .iter()
            .any(|token| token.depth >= DEEP);
    if !is_deep {
        return work();
    }
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES);
        let deep = deep.spawn_scoped(scope, work);
        match deep.expect("a process can start a thread").join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// One run of pest: the tree, or where it stopped and which rules were tried there.
fn attempt(source: &str, scanned: &scan::Scan) -> Result<(File, Vec<Diagnostic>), Box<Stop>> {
    // Process-wide and the same for all: far above what 1 MiB of source takes, far below what a hang would.
    static LIMITED: std::sync::Once = std::sync::Once::new();
    LIMITED.call_once(|| pest::set_call_limit(std::num::NonZeroUsize::new(MAX_CALLS)));
    let mut pairs = Lmp::parse(Rule::file, source).map_err(|error| Box::new(Stop::new(error)))?;
    let mut converter = convert::Converter::new(source, &scanned.tokens);
    let file = converter.file(pairs.next().expect("a parse gives the rule asked for"));
    Ok((file, converter.errors))
}

/// Where pest stopped.
struct Stop {
    at: usize,
    expected: Vec<Rule>,
    /// It ran into its limit of calls or of stack.
    gave_up: bool,
}

impl Stop {
    fn new(error: pest::error::Error<Rule>) -> Stop {
        let at = match error.location {
            pest::error::InputLocation::Pos(at) => at,
            pest::error::InputLocation::Span((at, _)) => at,
        };
        match error.variant {
            pest::error::ErrorVariant::ParsingError { positives, .. } => Stop {
                at,
                expected: positives,
                gave_up: false,
            },
            pest::error::ErrorVariant::CustomError { .. } => Stop {
                at,
                expected: Vec::new(),
                gave_up: true,
            },
        }
    }
}
