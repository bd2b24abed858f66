//! Lark's grammar dialect: the subset that says which texts are legal.
//!
//! What only shapes Lark's trees is read and has no effect: `?rule`, `!rule`, `-> alias`, and
//! priorities, for an output is legal if any derivation yields it. Templates, imports from other
//! libraries, `%declare`, `%override` and `%extend` are refused. `%json { ... }` in place of a
//! terminal stands for the texts that satisfy a JSON Schema.
//!
//! Source: Lark's grammar reference, <https://lark-parser.readthedocs.io/en/stable/grammar.html>.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir};

use crate::cfg::expr::{Expr, Grammar};
use crate::cfg::library::common;
use crate::cfg::source::{Cursor, Rules};
use crate::cfg::terminal::Terminal;
use crate::regex::parser::Flags;
use crate::regex::syntax::{self, Whole};
use crate::{Constraint, GrammarError, Limits};

/// Reads a grammar; it begins with the rule `start`.
pub(crate) fn parse(source: &str, limits: &Limits) -> Result<Grammar, GrammarError> {
    let mut parser = Parser {
        cursor: Cursor::new(source, limits)?,
        rules: Rules::default(),
        ignored: Vec::new(),
        limits,
    };
    loop {
        parser.space(true);
        if parser.cursor.peek().is_none() {
            break;
        }
        parser.statement()?;
    }
    let ignore = (!parser.ignored.is_empty()).then_some(Expr::Choice(parser.ignored));
    parser.rules.finish(&parser.cursor, "start", ignore)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    rules: Rules,
    ignored: Vec<Expr>,
    limits: &'a Limits,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a name is a terminal's: its first letter is upper-case.
fn is_token(name: &str) -> bool {
    let first = name.trim_start_matches('_').chars().next();
    first.is_some_and(|c| c.is_ascii_uppercase())
}

impl<'a> Parser<'a> {
    /// Skips blanks and comments, and line ends where asked to.
    fn space(&mut self, newlines: bool) {
        loop {
            self.cursor
                .take_while(|c| matches!(c, ' ' | '\t') || (newlines && matches!(c, '\r' | '\n')));
            let rest = self.cursor.rest();
            if !rest.starts_with("//") && !rest.starts_with('#') {
                return;
            }
            self.cursor.take_while(|c| c != '\n');
        }
    }

    fn statement(&mut self) -> Result<(), GrammarError> {
        let at = self.cursor.at;
        if self.cursor.eat("%") {
            self.directive(at)?;
        } else {
            self.cursor.take_while(|c| matches!(c, '?' | '!'));
            let name = self.name()?;
            if self.cursor.peek() == Some('{') {
                let at = self.cursor.at;
                return Err(self.cursor.error(at, "templates are not supported"));
            }
            if self.cursor.eat(".") {
                self.cursor.eat("-");
                self.cursor.number()?;
            }
            self.space(false);
            self.cursor.expect(":")?;
            let body = self.choice(false)?;
            self.rules
                .define(&self.cursor, name, (is_token(name), at), body)?;
        }
        self.space(false);
        self.cursor.eat("\r");
        match self.cursor.peek() {
            None => Ok(()),
            Some(_) => self.cursor.expect("\n"),
        }
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let at = self.cursor.at;
        let name = self.cursor.take_while(is_name);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.cursor.error(at, "expected a name"));
        }
        Ok(name)
    }

    /// What follows a `%` at `at`.
    fn directive(&mut self, at: usize) -> Result<(), GrammarError> {
        match self.cursor.take_while(is_name) {
            "ignore" => {
                let ignored = self.choice(false)?;
                self.ignored.push(ignored);
                Ok(())
            }
            "import" => {
                self.space(false);
                self.import()
            }
            other => {
                let message = format!("`%{other}` is not supported");
                Err(self.cursor.error(at, message))
            }
        }
    }

    fn import(&mut self) -> Result<(), GrammarError> {
        let at = self.cursor.at;
        let library = self.cursor.take_while(is_name);
        if library != "common" {
            let message = "only the library `common` can be imported from";
            return Err(self.cursor.error(at, message));
        }
        if self.cursor.eat(".") {
            let at = self.cursor.at;
            let name = self.name()?;
            self.space(false);
            let alias = if self.cursor.eat("->") {
                self.space(false);
                self.name()?
            } else {
                name
            };
            return self.import_one(name, alias, at);
        }
        self.space(false);
        self.cursor.expect("(")?;
        loop {
            self.space(true);
            let at = self.cursor.at;
            let name = self.name()?;
            self.import_one(name, name, at)?;
            self.space(true);
            if !self.cursor.eat(",") {
                return self.cursor.expect(")");
            }
        }
    }

    fn import_one(&mut self, name: &str, alias: &str, at: usize) -> Result<(), GrammarError> {
        let Some(pattern) = common(name) else {
            let message = format!("`common` has no terminal `{name}` that is supported");
            return Err(self.cursor.error(at, message));
        };
        let hir = syntax::parse(pattern, self.limits)?;
        self.rules
            .define(&self.cursor, alias, (true, at), Expr::regular(hir))
    }

    fn choice(&mut self, nested: bool) -> Result<Expr, GrammarError> {
        let mut options = Vec::new();
        loop {
            self.space(nested);
            options.push(self.sequence(nested)?);
            let before = self.cursor.at;
            self.space(true);
            if !self.cursor.eat("|") {
                if !nested {
                    self.cursor.at = before;
                }
                return Ok(Expr::Choice(options));
            }
        }
    }

    fn sequence(&mut self, nested: bool) -> Result<Expr, GrammarError> {
        let mut parts = Vec::new();
        while let Some(part) = self.atom()? {
            let part = self.repeated(part)?;
            parts.push(part);
            self.space(nested);
        }
        if self.cursor.eat("->") {
            self.space(false);
            self.name()?;
            self.space(nested);
        }
        Ok(Expr::Sequence(parts))
    }

    fn atom(&mut self) -> Result<Option<Expr>, GrammarError> {
        let at = self.cursor.at;
        Ok(Some(match self.cursor.peek() {
            Some('(') => self.group(")")?,
            Some('[') => self.group("]")?.repeat(0, Some(1)),
            Some('"') => self.string_or_range()?,
            Some('/') => self.regex()?,
            Some('%') => self.schema()?,
            Some(c) if is_name(c) && !c.is_ascii_digit() => {
                let name = self.name()?;
                if self.cursor.peek() == Some('{') {
                    let at = self.cursor.at;
                    return Err(self.cursor.error(at, "templates are not supported"));
                }
                Expr::Rule(self.rules.mention(name, is_token(name), at))
            }
            _ => return Ok(None),
        }))
    }

    fn group(&mut self, end: &str) -> Result<Expr, GrammarError> {
        self.cursor.open()?;
        self.cursor.bump();
        let group = self.choice(true)?;
        self.cursor.expect(end)?;
        self.cursor.close();
        Ok(group)
    }

    fn repeated(&mut self, mut part: Expr) -> Result<Expr, GrammarError> {
        for n_open in 0.. {
            let before = self.cursor.at;
            self.space(false);
            let (min, max) = match self.cursor.bump() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('~') => self.bounds()?,
                _ => {
                    self.cursor.at = before;
                    (0..n_open).for_each(|_| self.cursor.close());
                    break;
                }
            };
            self.cursor.open()?;
            part = part.repeat(min, max);
        }
        Ok(part)
    }

    /// The `n` or `n..m` after a `~`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        let at = self.cursor.at;
        self.space(false);
        let min = self.cursor.number()?;
        self.space(false);
        let mut max = min;
        if self.cursor.eat("..") {
            self.space(false);
            max = self.cursor.number()?;
        }
        if max < min {
            return Err(self.cursor.error(at, "the maximum is below the minimum"));
        }
        Ok((min, Some(max)))
    }

    fn string_or_range(&mut self) -> Result<Expr, GrammarError> {
        let at = self.cursor.at;
        let text = self.string()?;
        if self.cursor.eat("i") {
            let pattern = format!("(?i:{})", regex_syntax::escape(&text));
            let hir = regex_syntax::parse(&pattern).expect("an escaped text is a valid regex");
            return Ok(Expr::regular(hir));
        }
        let before = self.cursor.at;
        self.space(false);
        if !self.cursor.eat("..") {
            self.cursor.at = before;
            return Ok(Expr::literal(&text));
        }
        self.space(false);
        if self.cursor.peek() != Some('"') {
            return Err(self.cursor.error(self.cursor.at, "expected a character"));
        }
        let end = self.string()?;
        let single = |text: &str| {
            let mut chars = text.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        match (single(&text), single(&end)) {
            (Some(low), Some(high)) if low <= high => {
                let range = ClassUnicode::new([ClassUnicodeRange::new(low, high)]);
                Ok(Expr::regular(Hir::class(Class::Unicode(range))))
            }
            _ => Err(self
                .cursor
                .error(at, "a range goes from one character up to another")),
        }
    }

    fn string(&mut self) -> Result<String, GrammarError> {
        let start = self.cursor.at;
        self.cursor.bump();
        let mut text = String::new();
        loop {
            let at = self.cursor.at;
            match self.cursor.bump() {
                Some('"') => return Ok(text),
                None | Some('\n') => {
                    return Err(self.cursor.error(start, "the string does not end"));
                }
                Some('\\') => {
                    let escaped = self.cursor.bump();
                    text.push(match escaped {
                        Some('n') => '\n',
                        Some('r') => '\r',
                        Some('t') => '\t',
                        Some('f') => '\x0C',
                        Some('x') => self.cursor.hex(2)?,
                        Some('u') => self.cursor.hex(4)?,
                        Some('U') => self.cursor.hex(8)?,
                        Some(c) if c.is_ascii_punctuation() => c,
                        _ => return Err(self.cursor.error(at, "the escape is not known")),
                    });
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn regex(&mut self) -> Result<Expr, GrammarError> {
        let start = self.cursor.at;
        self.cursor.bump();
        let body_at = self.cursor.at;
        loop {
            match self.cursor.bump() {
                Some('/') => break,
                Some('\\') => {
                    self.cursor.bump();
                }
                None | Some('\n') => {
                    return Err(self.cursor.error(start, "the regex does not end"));
                }
                Some(_) => {}
            }
        }
        let body = &self.cursor.text[body_at..self.cursor.at - 1];
        let flags = self.flags(start)?;
        let whole = syntax::parse_whole(body, flags, self.limits);
        let whole = whole.map_err(|error| match error {
            GrammarError::Regex { offset, message } => self.cursor.error(body_at + offset, message),
            other => other,
        })?;
        match whole {
            Whole::Hir(hir) if hir.properties().look_set().is_empty() => Ok(Expr::regular(hir)),
            Whole::Hir(_) => {
                let message = "anchors are not supported in a grammar";
                Err(self.cursor.error(start, message))
            }
            Whole::Table(table) => {
                if table.is_empty() {
                    return Ok(Expr::Choice(Vec::new()));
                }
                self.rules.terminals.push(Terminal::Table(table));
                Ok(Expr::Terminal(self.rules.terminals.len() - 1))
            }
        }
    }

    /// The flags of the regex that began at `start`.
    fn flags(&mut self, start: usize) -> Result<Flags, GrammarError> {
        let mut flags = Flags::default();
        for flag in self.cursor.take_while(|c| c.is_ascii_lowercase()).chars() {
            match flag {
                'i' => flags.ignores_case = true,
                's' => flags.dot_all = true,
                'x' => flags.verbose = true,
                'u' => {}
                other => {
                    let message = format!("the flag `{other}` is not supported");
                    return Err(self.cursor.error(start, message));
                }
            }
        }
        Ok(flags)
    }

    /// `%json` and a schema.
    fn schema(&mut self) -> Result<Expr, GrammarError> {
        let at = self.cursor.at;
        if !self.cursor.eat("%json") {
            return Err(self.cursor.error(at, "expected `%json`"));
        }
        self.space(true);
        let at = self.cursor.at;
        let mut values = serde_json::Deserializer::from_str(self.cursor.rest()).into_iter();
        let schema: serde_json::Value = match values.next() {
            Some(Ok(schema)) => schema,
            Some(Err(error)) => {
                let message = format!("malformed JSON: {error}");
                return Err(self.cursor.error(at, message));
            }
            None => return Err(self.cursor.error(at, "expected a JSON Schema")),
        };
        self.cursor.at = at + values.byte_offset();
        let constraint = Constraint::json_schema(&schema, self.limits)
            .map_err(|error| self.cursor.error(at, error.to_string()))?;
        self.rules.terminals.push(Terminal::Nested(constraint));
        Ok(Expr::Terminal(self.rules.terminals.len() - 1))
    }
}
