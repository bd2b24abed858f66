//! Reads ECMA-262 patterns.
//!
//! Characters are code points, as with the flag `u`. What that flag forbids and Annex B allows is
//! read as Annex B has it where it has one meaning: braces and brackets that open nothing,
//! needless escapes of what is no letter or digit. What programs in other dialects use besides is
//! read too: `(?P<name>...)`, and flags within the pattern. Back-references, octal escapes and
//! letters that escape nothing are refused with their byte offset.
//!
//! Source: ECMA-262, section 22.2 and annex B.1.2.

use std::marker::PhantomData;

use regex_syntax::hir::{Class, HirKind};

use crate::regex::outline::Part;
use crate::regex::set::{Set, complement, digits, line_ends, space, word};
use crate::{GrammarError, Limits};

/// Flags, each of which can be set for a part of the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// `i`.
    pub(crate) ignores_case: bool,
    /// `s`: `.` matches line terminators too.
    pub(crate) dot_all: bool,
    /// `x`: white space and comments count for nothing outside of classes. Not of ECMA-262.
    pub(crate) verbose: bool,
}

/// Reads a pattern, as a syntax tree or an outline.
pub(crate) fn parse<P: Part>(
    pattern: &str,
    flags: Flags,
    limits: &Limits,
) -> Result<P, GrammarError> {
    if pattern.len() > limits.source_bytes {
        return Err(GrammarError::Limit {
            what: "the regex".into(),
            limit: "source_bytes",
            allowed: limits.source_bytes,
        });
    }
    let mut parser = Parser {
        pattern,
        at: 0,
        flags,
        depth: 0,
        max_depth: limits.depth,
        made: PhantomData,
    };
    let node = parser.alternation()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.error(parser.at, "this `)` closes nothing")),
    }
}

struct Parser<'a, P> {
    pattern: &'a str,
    /// Byte offset.
    at: usize,
    flags: Flags,
    depth: usize,
    max_depth: usize,
    made: PhantomData<P>,
}

/// What a `\` stands for.
enum Escaped<S> {
    Char(char),
    Class(S),
}

impl<P: Part> Parser<'_, P> {
    fn rest(&self) -> &str {
        &self.pattern[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn error(&self, offset: usize, message: impl Into<String>) -> GrammarError {
        GrammarError::Regex {
            offset,
            message: message.into(),
        }
    }

    fn alternation(&mut self) -> Result<P, GrammarError> {
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(GrammarError::Limit {
                what: "the regex's nesting".into(),
                limit: "depth",
                allowed: self.max_depth,
            });
        }
        let mut options = vec![self.concat()?];
        while self.eat("|") {
            options.push(self.concat()?);
        }
        self.depth -= 1;
        Ok(match options.len() {
            1 => options.remove(0),
            _ => P::alternation(options),
        })
    }

    fn concat(&mut self) -> Result<P, GrammarError> {
        let mut parts = Vec::new();
        loop {
            self.skip_verbose();
            let at = self.at;
            match self.peek() {
                None | Some('|' | ')') => break,
                Some(_) => {}
            }
            let Some(atom) = self.atom()? else { continue };
            self.skip_verbose();
            parts.push(self.quantified(atom, at)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => P::concat(parts),
        })
    }

    fn skip_verbose(&mut self) {
        while self.flags.verbose && self.peek().is_some_and(|c| c.is_whitespace() || c == '#') {
            if self.bump() == Some('#') {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            }
        }
    }

    /// One atom; `None` for flags, which match nothing themselves.
    fn atom(&mut self) -> Result<Option<P>, GrammarError> {
        let at = self.at;
        let Some(c) = self.bump() else {
            return Ok(Some(P::concat(Vec::new())));
        };
        Ok(Some(match c {
            '^' => P::start(),
            '$' => P::end(),
            '.' if self.flags.dot_all => P::class(complement(Set::of(&[]))),
            '.' => P::class(complement(line_ends())),
            '[' => P::class(self.class(at)?),
            '(' => return self.group(at),
            '*' | '+' | '?' => return Err(self.error(at, "there is nothing to repeat")),
            '{' if self.bounds_at(at).is_some() => {
                return Err(self.error(at, "there is nothing to repeat"));
            }
            '\\' if self.eat("b") => P::boundary(false, at),
            '\\' if self.eat("B") => P::boundary(true, at),
            '\\' => match self.escape(at)? {
                Escaped::Char(c) => self.one(c),
                Escaped::Class(class) => P::class(class),
            },
            c => self.one(c),
        }))
    }

    fn one(&self, c: char) -> P {
        P::class(self.folded(P::Set::of(&[(c, c)])))
    }

    fn folded(&self, mut class: P::Set) -> P::Set {
        if self.flags.ignores_case {
            class.fold_case();
        }
        class
    }

    fn quantified(&mut self, atom: P, at: usize) -> Result<P, GrammarError> {
        let quantifier_at = self.at;
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.bounds_at(self.at) {
                Some((min, max, end)) => {
                    // The last of its characters is skipped with the other quantifiers' only one.
                    self.at = end - 1;
                    (min, max)
                }
                None => return Ok(atom),
            },
            _ => return Ok(atom),
        };
        self.bump();
        self.eat("?");
        if min == u32::MAX || max == Some(u32::MAX) {
            return Err(self.error(quantifier_at, "the count is too large"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.error(quantifier_at, "the maximum is below the minimum"));
        }
        if atom.is_assertion() {
            return Err(self.error(at, "an assertion cannot be repeated"));
        }
        Ok(P::repeat(atom, min, max))
    }

    /// The quantifier in braces at `at`, and its end; `None` where the brace is a literal.
    fn bounds_at(&self, at: usize) -> Option<(u32, Option<u32>, usize)> {
        let inside = self.pattern[at..].strip_prefix('{')?;
        let inside = &inside[..inside.find('}')?];
        let number = |digits: &str| -> Option<u32> {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let end = at + inside.len() + 2;
        match inside.split_once(',') {
            None => number(inside).map(|n| (n, Some(n), end)),
            Some((min, "")) => number(min).map(|min| (min, None, end)),
            Some((min, max)) => Some((number(min)?, Some(number(max)?), end)),
        }
    }

    /// What follows a `(`.
    fn group(&mut self, at: usize) -> Result<Option<P>, GrammarError> {
        let outer = self.flags;
        let mut around = None;
        if self.eat("?=") || self.eat("?!") {
            around = Some((true, self.pattern[..self.at].ends_with('!')));
        } else if self.eat("?<=") || self.eat("?<!") {
            around = Some((false, self.pattern[..self.at].ends_with('!')));
        } else if self.eat("?<") || self.eat("?P<") {
            let end = self.rest().find('>').filter(|&end| end > 0);
            let end = end.ok_or_else(|| self.error(at, "the group's name does not end"))?;
            self.at += end + 1;
        } else if self.eat("?") && !self.eat(":") && self.set_flags(at)? {
            return Ok(None);
        }
        let body = self.alternation()?;
        if !self.eat(")") {
            return Err(self.error(at, "this group does not end"));
        }
        self.flags = outer;
        Ok(Some(match around {
            None => body,
            Some((is_ahead, negated)) => P::around(body, is_ahead, negated, at),
        }))
    }

    /// `ims-ims:`, or `ims)`, which holds to the end of the group around: then true.
    fn set_flags(&mut self, at: usize) -> Result<bool, GrammarError> {
        let mut value = true;
        loop {
            match self.bump() {
                Some('i') => self.flags.ignores_case = value,
                Some('s') => self.flags.dot_all = value,
                Some('x') => self.flags.verbose = value,
                Some('m') if !value => {}
                Some('m') => return Err(self.error(at, "multi-line anchors are not supported")),
                Some('u') => {}
                Some('-') if value => value = false,
                Some(':') => return Ok(false),
                Some(')') => return Ok(true),
                _ => return Err(self.error(at, "this kind of group is not supported")),
            }
        }
    }

    /// What follows a `[` at `start`.
    fn class(&mut self, start: usize) -> Result<P::Set, GrammarError> {
        let negated = self.eat("^");
        let mut all = P::Set::of(&[]);
        loop {
            let at = self.at;
            let low = match self.bump() {
                None => return Err(self.error(start, "this class does not end")),
                Some(']') => break,
                Some(c) => self.class_atom(c, at)?,
            };
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            if !is_range {
                add(&mut all, &low);
                continue;
            }
            self.bump();
            let high_at = self.at;
            let Some(c) = self.bump() else {
                return Err(self.error(start, "this class does not end"));
            };
            match (low, self.class_atom(c, high_at)?) {
                (Escaped::Char(low), Escaped::Char(high)) if low <= high => {
                    all.union(&Set::of(&[(low, high)]));
                }
                (Escaped::Char(_), Escaped::Char(_)) => {
                    return Err(self.error(at, "the range ends before it begins"));
                }
                (low, high) => {
                    add(&mut all, &low);
                    add(&mut all, &Escaped::Char('-'));
                    add(&mut all, &high);
                }
            }
        }
        let mut folded = self.folded(all);
        if negated {
            folded.negate();
        }
        Ok(folded)
    }

    fn class_atom(&mut self, c: char, at: usize) -> Result<Escaped<P::Set>, GrammarError> {
        match c {
            '\\' if self.eat("b") => Ok(Escaped::Char('\u{8}')),
            '\\' => self.escape(at),
            c => Ok(Escaped::Char(c)),
        }
    }

    /// What follows a `\` at `at`.
    fn escape(&mut self, at: usize) -> Result<Escaped<P::Set>, GrammarError> {
        let Some(c) = self.bump() else {
            return Err(self.error(at, "the pattern ends within an escape"));
        };
        let is_digit_next = self.peek().is_some_and(|c| c.is_ascii_digit());
        Ok(match c {
            'd' => Escaped::Class(digits()),
            'D' => Escaped::Class(complement(digits())),
            'w' => Escaped::Class(word()),
            'W' => Escaped::Class(complement(word())),
            's' => Escaped::Class(space()),
            'S' => Escaped::Class(complement(space())),
            'p' | 'P' => Escaped::Class(self.property(c == 'P', at)?),
            't' => Escaped::Char('\t'),
            'n' => Escaped::Char('\n'),
            'v' => Escaped::Char('\u{B}'),
            'f' => Escaped::Char('\u{C}'),
            'r' => Escaped::Char('\r'),
            '0' if !is_digit_next => Escaped::Char('\0'),
            '0' => return Err(self.error(at, "octal escapes are not supported")),
            '1'..='9' | 'k' => return Err(self.error(at, "back-references are not supported")),
            'c' => match self.peek().filter(char::is_ascii_alphabetic) {
                Some(letter) => {
                    self.bump();
                    Escaped::Char(char::from(letter as u8 % 32))
                }
                None => return Err(self.error(at, "`\\c` needs a letter")),
            },
            'x' | 'u' => self.code(c, at)?,
            c if c.is_ascii_alphanumeric() => {
                return Err(self.error(at, format!("`\\{c}` is no escape of ECMA-262")));
            }
            c => Escaped::Char(c),
        })
    }

    /// `\xHH`, `\uHHHH`, or `\u{...}`. Halves of surrogate pairs match nothing alone.
    fn code(&mut self, kind: char, at: usize) -> Result<Escaped<P::Set>, GrammarError> {
        let malformed = self.error(at, "the hexadecimal escape is malformed");
        let code = if kind == 'u' && self.rest().starts_with('{') {
            let inside = self.rest()[1..].split_once('}').map(|(inside, _)| inside);
            let inside = inside.ok_or_else(|| malformed.clone())?.to_string();
            self.at += inside.len() + 2;
            hex(&inside).ok_or_else(|| malformed.clone())?
        } else {
            let n_digits = if kind == 'x' { 2 } else { 4 };
            self.hex_digits(n_digits).ok_or_else(|| malformed.clone())?
        };
        if (0xD800..0xDC00).contains(&code) && self.rest().starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            if let Some(low @ 0xDC00..0xE000) = self.hex_digits(4) {
                let code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                return char::from_u32(code).map(Escaped::Char).ok_or(malformed);
            }
            self.at = before;
        }
        match char::from_u32(code) {
            Some(c) => Ok(Escaped::Char(c)),
            None if code < 0x1_0000 => Ok(Escaped::Class(Set::of(&[]))),
            None => Err(malformed),
        }
    }

    fn hex_digits(&mut self, n_digits: usize) -> Option<u32> {
        let code = hex(self.rest().get(..n_digits)?)?;
        self.at += n_digits;
        Some(code)
    }

    /// The name of a Unicode property and its class.
    fn property(&mut self, negated: bool, at: usize) -> Result<P::Set, GrammarError> {
        let end = match self.peek() {
            Some('{') => self.rest().find('}').map(|end| end + 1),
            Some(c) => Some(c.len_utf8()),
            None => None,
        };
        let end = end.ok_or_else(|| self.error(at, "the property's name does not end"))?;
        let query = format!("\\p{}", &self.rest()[..end]);
        self.at += end;
        let unknown = || self.error(at, "the Unicode property is not known");
        let known = match regex_syntax::parse(&query).map_err(|_| unknown())?.kind() {
            HirKind::Class(Class::Unicode(class)) => Set::known(class),
            // A property of one character.
            HirKind::Literal(literal) => {
                let c = std::str::from_utf8(&literal.0)
                    .ok()
                    .and_then(|text| text.chars().next());
                c.map(|c| Set::of(&[(c, c)])).ok_or_else(unknown)?
            }
            _ => return Err(unknown()),
        };
        Ok(if negated { complement(known) } else { known })
    }
}

fn add<S: Set>(all: &mut S, part: &Escaped<S>) {
    match part {
        Escaped::Char(c) => all.union(&S::of(&[(*c, *c)])),
        Escaped::Class(class) => all.union(class),
    }
}

fn hex(digits: &str) -> Option<u32> {
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}
