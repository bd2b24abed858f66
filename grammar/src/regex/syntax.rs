//! Patterns as regexes, and as Boolean combinations of them.
//!
//! A lookahead at a fixed place of the text is a second condition on the text, so a pattern with
//! lookarounds is a Boolean combination of patterns without: see [`boolean`]. What is matched as a
//! whole may hold negative ones anywhere: see [`marked`].

pub(crate) use crate::regex::boolean::Boolean;
pub(crate) use crate::regex::condition::{may_go_on, searched, surrounded};

use regex_syntax::hir::{Hir, Look};

use crate::regex::boolean;
use crate::regex::condition;
use crate::regex::marked;
use crate::regex::node::Node;
use crate::regex::outline::Outline;
use crate::regex::parser::{self, Flags};
use crate::regex::table::Table;
use crate::{GrammarError, Limits};

/// Reads a pattern in ECMA-262 syntax without lookarounds; its anchors are left in place as `Start`
/// and `End`, the only assertions of the result.
pub(crate) fn parse(pattern: &str, limits: &Limits) -> Result<Hir, GrammarError> {
    let node: Node = parser::parse(pattern, Flags::default(), limits)?;
    match node.first_around() {
        None => Ok(node.to_hir()),
        Some(offset) => Err(GrammarError::Regex {
            offset,
            message: "look-around, including look-ahead and look-behind, is not supported".into(),
        }),
    }
}

/// Reads a pattern in ECMA-262 syntax as a condition on a text in which it is searched for.
///
/// # Errors
/// `Regex` for lookarounds whose place in the text is not fixed, besides those of a parser.
pub(crate) fn parse_boolean(pattern: &str, limits: &Limits) -> Result<Boolean, GrammarError> {
    boolean::search(parser::parse(pattern, Flags::default(), limits)?)
}

/// Whether [`parse_boolean`] reads a pattern. One without lookarounds is a condition as it is: not even its tree need be made.
pub(crate) fn is_boolean(pattern: &str, limits: &Limits) -> bool {
    let outline: Result<Outline, _> = parser::parse(pattern, Flags::default(), limits);
    outline.is_ok_and(|outline| !outline.has_around || parse_boolean(pattern, limits).is_ok())
}

/// A pattern that texts match as a whole.
pub(crate) enum Whole {
    Hir(Hir),
    /// With lookarounds; their automaton is built at once.
    Table(Table),
}

/// Reads a pattern in ECMA-262 syntax that texts are to match as a whole.
///
/// # Errors
/// `Regex` for positive lookarounds whose place in the text is not fixed, besides those of a
/// parser; `Limit` for an automaton that is too large.
pub(crate) fn parse_whole(
    pattern: &str,
    flags: Flags,
    limits: &Limits,
) -> Result<Whole, GrammarError> {
    let node: Node = parser::parse(pattern, flags, limits)?;
    if node.first_around().is_none() {
        return Ok(Whole::Hir(node.to_hir()));
    }
    let anchored = Node::Concat(vec![Node::Start, node.clone(), Node::End]);
    let table = match boolean::search(anchored) {
        Ok(condition) => condition::table(&condition, limits)?,
        Err(refused) => marked::table(&node, limits)?.ok_or(refused)?,
    };
    Ok(Whole::Table(table))
}

/// Reads a pattern in the syntax of Rust's regex crate.
pub(crate) fn parse_rust(pattern: &str, limits: &Limits) -> Result<Hir, GrammarError> {
    if pattern.len() > limits.source_bytes {
        return Err(GrammarError::Limit {
            what: "the regex".into(),
            limit: "source_bytes",
            allowed: limits.source_bytes,
        });
    }
    let refuse = |offset, message| GrammarError::Regex { offset, message };
    let hir = regex_syntax::ParserBuilder::new()
        .nest_limit(limits.depth as u32)
        .build()
        .parse(pattern)
        .map_err(|error| match error {
            regex_syntax::Error::Parse(error) => {
                refuse(error.span().start.offset, error.kind().to_string())
            }
            regex_syntax::Error::Translate(error) => {
                refuse(error.span().start.offset, error.kind().to_string())
            }
            other => refuse(0, other.to_string()),
        })?;
    let mut looks = hir.properties().look_set().iter();
    match looks.find(|look| !matches!(look, Look::Start | Look::End)) {
        None => Ok(hir),
        Some(_) => {
            let message = "word boundaries and multi-line anchors are not supported";
            Err(refuse(0, message.into()))
        }
    }
}
