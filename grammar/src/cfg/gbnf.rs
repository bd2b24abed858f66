//! GBNF, the grammar dialect of llama.cpp. Nothing is ignored between terminals.
//!
//! Source: llama.cpp, `grammars/README.md` and `src/llama-grammar.cpp`.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir};

use crate::cfg::expr::{Expr, Grammar};
use crate::cfg::source::{Cursor, Rules};
use crate::{GrammarError, Limits};

/// Reads a grammar; it begins with the rule `root`.
pub(crate) fn parse(source: &str, limits: &Limits) -> Result<Grammar, GrammarError> {
    let mut parser = Parser {
        cursor: Cursor::new(source, limits)?,
        rules: Rules::default(),
    };
    loop {
        parser.space(true);
        if parser.cursor.peek().is_none() {
            break;
        }
        parser.rule()?;
    }
    parser.rules.finish(&parser.cursor, "root", None)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    rules: Rules,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

impl Parser<'_> {
    /// Skips blanks and comments, and line ends where the expression may go on after one.
    fn space(&mut self, newlines: bool) {
        loop {
            self.cursor
                .take_while(|c| matches!(c, ' ' | '\t') || (newlines && matches!(c, '\r' | '\n')));
            if self.cursor.peek() != Some('#') {
                return;
            }
            self.cursor.take_while(|c| c != '\n');
        }
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let at = self.cursor.at;
        let name = self.cursor.take_while(is_name);
        if name.is_empty() {
            return Err(self.cursor.error(at, "expected the name of a rule"));
        }
        self.space(false);
        self.cursor.expect("::=")?;
        let body = self.choice(false)?;
        self.cursor.eat("\r");
        if self.cursor.peek().is_some() {
            self.cursor.expect("\n")?;
        }
        self.rules.define(&self.cursor, name, (false, at), body)
    }

    fn choice(&mut self, nested: bool) -> Result<Expr, GrammarError> {
        let mut options = Vec::new();
        loop {
            self.space(true);
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
            self.space(nested);
            let part = self.repeated(part, nested)?;
            parts.push(part);
        }
        Ok(Expr::Sequence(parts))
    }

    fn atom(&mut self) -> Result<Option<Expr>, GrammarError> {
        let at = self.cursor.at;
        let atom = match self.cursor.peek() {
            Some('"') => Some(self.literal()?),
            Some('[') => Some(self.class()?),
            Some('.') => {
                self.cursor.bump();
                let any = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
                Some(Expr::regular(Hir::class(Class::Unicode(any))))
            }
            Some('(') => {
                self.cursor.open()?;
                self.cursor.bump();
                let group = self.choice(true)?;
                self.cursor.expect(")")?;
                self.cursor.close();
                Some(group)
            }
            Some('<' | '!') => {
                return Err(self.cursor.error(at, "tokens are not supported"));
            }
            Some(c) if is_name(c) => {
                let name = self.cursor.take_while(is_name);
                self.space(false);
                if self.cursor.rest().starts_with("::=") {
                    // The next rule; this one ended at the line's end.
                    self.cursor.at = at;
                    return Ok(None);
                }
                Some(Expr::Rule(self.rules.mention(name, false, at)))
            }
            _ => None,
        };
        Ok(atom)
    }

    fn repeated(&mut self, mut part: Expr, nested: bool) -> Result<Expr, GrammarError> {
        for n_open in 0.. {
            let before = self.cursor.at;
            let (min, max) = match self.cursor.bump() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.bounds()?,
                _ => {
                    self.cursor.at = before;
                    (0..n_open).for_each(|_| self.cursor.close());
                    break;
                }
            };
            self.cursor.open()?;
            part = part.repeat(min, max);
            self.space(nested);
        }
        Ok(part)
    }

    /// The rest of `{n}`, `{n,}` or `{n,m}`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        let at = self.cursor.at;
        self.space(true);
        let min = self.cursor.number()?;
        self.space(true);
        let mut max = Some(min);
        if self.cursor.eat(",") {
            self.space(true);
            let is_bounded = self.cursor.peek().is_some_and(|c| c.is_ascii_digit());
            max = is_bounded.then(|| self.cursor.number()).transpose()?;
            self.space(true);
        }
        self.cursor.expect("}")?;
        if max.is_some_and(|max| max < min) {
            return Err(self.cursor.error(at, "the maximum is below the minimum"));
        }
        Ok((min, max))
    }

    fn literal(&mut self) -> Result<Expr, GrammarError> {
        let start = self.cursor.at;
        self.cursor.bump();
        let mut text = String::new();
        loop {
            match self.cursor.peek() {
                Some('"') => {
                    self.cursor.bump();
                    return Ok(Expr::literal(&text));
                }
                None | Some('\n') => {
                    return Err(self.cursor.error(start, "the string does not end"));
                }
                Some(_) => text.push(self.char()?),
            }
        }
    }

    fn class(&mut self) -> Result<Expr, GrammarError> {
        let start = self.cursor.at;
        self.cursor.bump();
        let negated = self.cursor.eat("^");
        let mut class = ClassUnicode::empty();
        loop {
            match self.cursor.peek() {
                Some(']') => {
                    self.cursor.bump();
                    break;
                }
                None | Some('\n') => {
                    return Err(self.cursor.error(start, "the class does not end"));
                }
                Some(_) => {}
            }
            let at = self.cursor.at;
            let low = self.char()?;
            let is_range =
                self.cursor.rest().starts_with('-') && !self.cursor.rest().starts_with("-]");
            let high = if is_range {
                self.cursor.bump();
                self.char()?
            } else {
                low
            };
            if high < low {
                return Err(self.cursor.error(at, "the range ends before it begins"));
            }
            class.push(ClassUnicodeRange::new(low, high));
        }
        if negated {
            class.negate();
        }
        Ok(Expr::regular(Hir::class(Class::Unicode(class))))
    }

    /// A character of a string or class, escaped or not.
    fn char(&mut self) -> Result<char, GrammarError> {
        let at = self.cursor.at;
        let end = || "the grammar ends within an escape";
        let Some(c) = self.cursor.bump() else {
            return Err(self.cursor.error(at, end()));
        };
        if c != '\\' {
            return Ok(c);
        }
        let Some(escaped) = self.cursor.bump() else {
            return Err(self.cursor.error(at, end()));
        };
        Ok(match escaped {
            'x' => self.cursor.hex(2)?,
            'u' => self.cursor.hex(4)?,
            'U' => self.cursor.hex(8)?,
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            '\\' | '"' | '[' | ']' | '-' | '^' | '\'' | '/' => escaped,
            other => {
                let message = format!("the escape `\\{other}` is not known");
                return Err(self.cursor.error(at, message));
            }
        })
    }
}
