//! What both dialects share: a cursor over the source, names and the errors that name a place.

use std::collections::HashMap;

use crate::cfg::expr::{Expr, Grammar, Rule};
use crate::cfg::terminal::Terminal;
use crate::{GrammarError, Limits};

/// A place in the source. Groups count how deep they are nested.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    /// Byte offset.
    pub(crate) at: usize,
    depth: usize,
    max_depth: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, limits: &Limits) -> Result<Self, GrammarError> {
        if text.len() > limits.source_bytes {
            return Err(GrammarError::Limit {
                what: "the grammar".into(),
                limit: "source_bytes",
                allowed: limits.source_bytes,
            });
        }
        Ok(Self {
            text,
            at: 0,
            depth: 0,
            max_depth: limits.depth,
        })
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(crate) fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, expected: &str) -> Result<(), GrammarError> {
        if self.eat(expected) {
            return Ok(());
        }
        let found = match self.peek() {
            Some('\n') | None => "the end of the line".into(),
            Some(c) => format!("`{c}`"),
        };
        let expected = match expected {
            "\n" => "the end of the line".into(),
            text => format!("`{text}`"),
        };
        Err(self.error(self.at, format!("expected {expected}, found {found}")))
    }

    /// The longest run of characters that satisfy `is_part`.
    pub(crate) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A decimal number of at most nine digits.
    pub(crate) fn number(&mut self) -> Result<u32, GrammarError> {
        let at = self.at;
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(number) if digits.len() <= 9 => Ok(number),
            _ => Err(self.error(at, "expected a number of at most nine digits")),
        }
    }

    /// `n_digits` hexadecimal digits as a character.
    pub(crate) fn hex(&mut self, n_digits: usize) -> Result<char, GrammarError> {
        let at = self.at;
        self.rest()
            .get(..n_digits)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32)
            .inspect(|_| self.at += n_digits)
            .ok_or_else(|| {
                let message = format!("expected {n_digits} hexadecimal digits of a character");
                self.error(at, message)
            })
    }

    /// Enters a group.
    pub(crate) fn open(&mut self) -> Result<(), GrammarError> {
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(GrammarError::Limit {
                what: "the grammar's nesting".into(),
                limit: "depth",
                allowed: self.max_depth,
            });
        }
        Ok(())
    }

    /// Leaves a group.
    pub(crate) fn close(&mut self) {
        self.depth -= 1;
    }

    /// An error at byte `at`.
    pub(crate) fn error(&self, at: usize, message: impl Into<String>) -> GrammarError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        GrammarError::Grammar {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

/// The rules met so far, by name.
#[derive(Default)]
pub(crate) struct Rules {
    by_name: HashMap<String, usize>,
    found: Vec<Found>,
    pub(crate) terminals: Vec<Terminal>,
}

struct Found {
    name: String,
    /// Where it was first mentioned or defined.
    at: usize,
    body: Option<Expr>,
    is_token: bool,
}

impl Rules {
    /// The index of a rule that is mentioned at `at`.
    pub(crate) fn mention(&mut self, name: &str, is_token: bool, at: usize) -> usize {
        if let Some(&idx) = self.by_name.get(name) {
            return idx;
        }
        let idx = self.found.len();
        self.by_name.insert(name.into(), idx);
        self.found.push(Found {
            name: name.into(),
            at,
            body: None,
            is_token,
        });
        idx
    }

    /// Names that were mentioned and have no body, with the place of their first mention.
    pub(crate) fn first_undefined(&self) -> Option<(&str, usize)> {
        let undefined = self.found.iter().find(|found| found.body.is_none())?;
        Some((&undefined.name, undefined.at))
    }

    /// Gives a rule its body; it must not have one.
    pub(crate) fn define(
        &mut self,
        cursor: &Cursor<'_>,
        name: &str,
        (is_token, at): (bool, usize),
        body: Expr,
    ) -> Result<(), GrammarError> {
        let idx = self.mention(name, is_token, at);
        if self.found[idx].body.is_some() {
            return Err(cursor.error(at, format!("`{name}` is defined twice")));
        }
        self.found[idx].body = Some(body);
        Ok(())
    }

    /// The grammar that begins with the rule `start`.
    pub(crate) fn finish(
        self,
        cursor: &Cursor<'_>,
        start: &str,
        ignore: Option<Expr>,
    ) -> Result<Grammar, GrammarError> {
        let Some(&start) = self.by_name.get(start) else {
            return Err(cursor.error(0, format!("the rule `{start}` is missing")));
        };
        if let Some((name, at)) = self.first_undefined() {
            return Err(cursor.error(at, format!("`{name}` is not defined")));
        }
        let places: Vec<usize> = self.found.iter().map(|found| found.at).collect();
        let rules = self
            .found
            .into_iter()
            .map(|found| Rule {
                body: found.body.expect("undefined rules were refused"),
                is_token: found.is_token,
            })
            .collect();
        let mut grammar = Grammar::new(rules, start, self.terminals, ignore);
        match grammar.merge() {
            Some(recursive) => {
                Err(cursor.error(places[recursive], "a terminal cannot contain itself"))
            }
            None => Ok(grammar),
        }
    }
}
