//! A linear scan over the source before any recursion: tokens, bracket balance, nesting depth, unclosed strings.
//!
//! The parser recurses over brackets, so their depth is bounded here first. The tokens also tell the recovery where
//! statements begin and where a node's last token ends. A *frame* is an open bracket, an open string, or an open hole
//! in a string.

use crate::Diagnostic;
use crate::ast::Span;

use super::MAX_DEPTH;

/// What a token is, as far as the scan can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A keyword or a name.
    Word,
    /// A number with its suffix.
    Number,
    /// `/../` where an operand may stand.
    Regex,
    /// A string's opener.
    TextStart,
    /// A string's closer.
    TextEnd,
    /// `(`, `[`, `{` or `${`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// Anything else.
    Mark,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
    /// The number of frames open around it; an opener and its closer have the same.
    pub(super) depth: usize,
    /// Whether it is the first token on its line.
    pub(super) first: bool,
}

/// What the scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) tokens: Vec<Token>,
    pub(super) errors: Vec<Diagnostic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Bracket(u8),
    Hole,
    Line,
    Block,
}

struct Open {
    frame: Frame,
    start: usize,
}

struct Scanner<'s> {
    source: &'s str,
    bytes: &'s [u8],
    at: usize,
    line_start: usize,
    frames: Vec<Open>,
    /// Whether the last token can end an operand, so that `/` divides and a new statement may follow.
    after_operand: bool,
    /// `fork` and `best` nest without a bracket of their own; how many stand since the last bracket.
    n_openless: usize,
    /// Where a regex that goes on at each byte of a line would end, and where the line begins.
    regex_ends: Vec<usize>,
    regex_line: std::ops::Range<usize>,
    out: Scan,
    stopped: bool,
}

/// Scans the whole source.
pub(super) fn scan(source: &str) -> Scan {
    let mut scanner = Scanner {
        source,
        bytes: source.as_bytes(),
        at: 0,
        line_start: 0,
        frames: Vec::new(),
        after_operand: false,
        n_openless: 0,
        regex_ends: Vec::new(),
        regex_line: 0..0,
        out: Scan::default(),
        stopped: false,
    };
    if source.starts_with('\u{FEFF}') {
        scanner.at = '\u{FEFF}'.len_utf8();
    }
    if source[scanner.at..].starts_with("#!") {
        scanner.skip_line();
    }
    while scanner.at < scanner.bytes.len() && !scanner.stopped {
        match scanner.frames.last().map(|open| open.frame) {
            Some(Frame::Line) => scanner.line_text(),
            Some(Frame::Block) => scanner.block_text(),
            _ => scanner.code(),
        }
    }
    if !scanner.stopped {
        scanner.close_all();
    }
    scanner.out
}

impl Scanner<'_> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn skip_line(&mut self) {
        let end = self.rest().iter().position(|&b| b == b'\n');
        self.at = end.map_or(self.bytes.len(), |offset| self.at + offset);
    }

    fn push(&mut self, kind: TokenKind, start: usize, end: usize) {
        let last_end = self.out.tokens.last().map_or(0, |token| token.span.end);
        let first = self.out.tokens.is_empty() || last_end <= self.line_start;
        let depth = self.frames.len();
        self.out.tokens.push(Token {
            kind,
            span: Span { start, end },
            depth,
            first,
        });
        self.at = end;
    }

    fn error(&mut self, code: &'static str, message: String, span: Span, help: &str) {
        self.out
            .errors
            .push(Diagnostic::new(code, span, message).help(help));
    }

    /// Whether one more level fits; stops the scan where it does not.
    fn fits(&mut self, span: Span) -> bool {
        if self.frames.len() + self.n_openless < MAX_DEPTH {
            return true;
        }
        let message = format!("brackets are nested more than {MAX_DEPTH} deep");
        self.error(
            "E004",
            message,
            span,
            "move a part into a `let`, a `fn` or a `part`",
        );
        self.stopped = true;
        false
    }

    fn open(&mut self, frame: Frame, kind: TokenKind, len: usize) {
        let start = self.at;
        if !self.fits(Span {
            start,
            end: start + len,
        }) {
            return;
        }
        self.push(kind, start, start + len);
        self.frames.push(Open { frame, start });
        self.after_operand = false;
        self.n_openless = 0;
    }

    fn code(&mut self) {
        let byte = self.bytes[self.at];
        match byte {
            b'\n' => {
                self.at += 1;
                self.line_start = self.at;
            }
            b' ' | b'\t' | b'\r' => self.at += 1,
            b'/' if self.rest().starts_with(b"//") => self.skip_line(),
            b'/' if !self.after_operand => match self.regex_end() {
                Some(end) => {
                    self.push(TokenKind::Regex, self.at, end);
                    self.after_operand = true;
                }
                None => self.word_or_mark(),
            },
            b'"' if self.rest().starts_with(b"\"\"\"") => {
                self.open(Frame::Block, TokenKind::TextStart, 3);
            }
            b'"' => self.open(Frame::Line, TokenKind::TextStart, 1),
            b'(' | b'[' | b'{' => self.open(Frame::Bracket(byte), TokenKind::Open, 1),
            b')' | b']' | b'}' => self.close(byte),
            b'0'..=b'9' => self.number(),
            _ => self.word_or_mark(),
        }
    }

    /// Where the regex literal that starts here ends, if it ends on this line.
    ///
    /// One pass from the end of a line answers for all its bytes: a line of slashes costs its length, not its square.
    fn regex_end(&mut self) -> Option<usize> {
        let from = self.at + 1;
        if matches!(self.bytes.get(from), None | Some(b'/' | b'*' | b'\n')) {
            return None;
        }
        if !self.regex_line.contains(&from) {
            let rest = &self.bytes[from..];
            let len = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            self.regex_line = from..from + len;
            // usize::MAX stands for no end; two cells past the line for an escape at its end.
            self.regex_ends = vec![usize::MAX; len + 2];
            for idx in (0..len).rev() {
                self.regex_ends[idx] = match rest[idx] {
                    b'/' => from + idx + 1,
                    b'\\' => self.regex_ends[idx + 2],
                    _ => self.regex_ends[idx + 1],
                };
            }
        }
        let end = self.regex_ends[from - self.regex_line.start];
        (end != usize::MAX).then_some(end)
    }

    fn number(&mut self) {
        let rest = self.rest();
        let mut len = 0;
        while rest
            .get(len)
            .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        {
            len += 1;
        }
        if rest.get(len) == Some(&b'.') && rest.get(len + 1).is_some_and(u8::is_ascii_digit) {
            len += 1;
            while rest
                .get(len)
                .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
            {
                len += 1;
            }
        }
        self.push(TokenKind::Number, self.at, self.at + len);
        self.after_operand = true;
    }

    fn word_or_mark(&mut self) {
        let rest = &self.source[self.at..];
        let len: usize = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .map(char::len_utf8)
            .sum();
        if len == 0 {
            let len = rest.chars().next().map_or(1, char::len_utf8);
            let byte = self.bytes[self.at];
            self.push(TokenKind::Mark, self.at, self.at + len);
            // `?` ends an optional type, and what is not ASCII may go on a word; after other marks an operand is due.
            self.after_operand = byte == b'?' || !byte.is_ascii();
            return;
        }
        let word = &rest[..len];
        if word == "r" && self.raw_string() {
            return;
        }
        let word = word.to_owned();
        self.forget_lost_braces(&word);
        let before = self
            .out
            .tokens
            .last()
            .map_or("", |token| &self.source[token.span.start..token.span.end]);
        // A member may have a keyword's name; `max` is one in `loop max` alone.
        let expects =
            before != "." && (expects_operand(&word) || (word == "max" && before == "loop"));
        self.push(TokenKind::Word, self.at, self.at + len);
        self.after_operand = !expects;
        if matches!(word.as_str(), "fork" | "best")
            && self.fits(Span {
                start: self.at - len,
                end: self.at,
            })
        {
            self.n_openless += 1;
        }
    }

    /// A definition at the start of a line cannot stand in a block: whatever is still open there was never closed.
    fn forget_lost_braces(&mut self, word: &str) {
        let is_item = matches!(word, "fn" | "part" | "type" | "tool" | "input");
        if self.frames.is_empty() || !is_item || self.at != self.line_start {
            return;
        }
        let rest = &self.source[self.at + word.len()..];
        if rest
            .trim_start_matches(' ')
            .starts_with(|c: char| c.is_alphabetic())
            && rest.starts_with(' ')
        {
            self.close_all();
        }
    }

    /// `r"..."` and `r#"..."#` as one pair of tokens; whether one starts here.
    fn raw_string(&mut self) -> bool {
        let start = self.at;
        let n_hashes = self.bytes[start + 1..]
            .iter()
            .take_while(|&&b| b == b'#')
            .count();
        let open_end = start + 1 + n_hashes;
        if self.bytes.get(open_end) != Some(&b'"') {
            return false;
        }
        let closer = format!("\"{}", "#".repeat(n_hashes));
        let Some(offset) = self.source[open_end + 1..].find(&closer) else {
            let span = Span {
                start,
                end: open_end + 1,
            };
            let message = format!("this raw string is never closed by `{closer}`");
            self.error(
                "E002",
                message,
                span,
                "close it with the quote and as many `#` as opened it",
            );
            self.at = self.bytes.len();
            return true;
        };
        let close = open_end + 1 + offset;
        self.push(TokenKind::TextStart, start, open_end + 1);
        self.push(TokenKind::TextEnd, close, close + closer.len());
        self.after_operand = true;
        true
    }

    fn line_text(&mut self) {
        match self.bytes[self.at] {
            b'"' => self.end_text(1),
            b'\\' => self.skip_escape(),
            b'\n' => self.unclosed_line(),
            b'$' => self.dollar(),
            _ => self.at += 1,
        }
    }

    fn skip_escape(&mut self) {
        self.at += 1;
        // The newline of a string left open is still to be seen.
        if self.bytes.get(self.at).is_some_and(|&b| b != b'\n') {
            self.at += 1;
        }
    }

    fn block_text(&mut self) {
        if self.rest().starts_with(b"\"\"\"") {
            return self.end_text(3);
        }
        match self.bytes[self.at] {
            b'$' => self.dollar(),
            _ => self.at += 1,
        }
    }

    fn end_text(&mut self, len: usize) {
        self.frames.pop();
        self.push(TokenKind::TextEnd, self.at, self.at + len);
        self.after_operand = true;
    }

    fn dollar(&mut self) {
        if self.rest().starts_with(b"$${") {
            self.at += 3;
        } else if self.rest().starts_with(b"${") {
            self.open(Frame::Hole, TokenKind::Open, 2);
        } else {
            self.at += 1;
        }
    }

    /// A one-line string that reached the end of its line. Brackets opened on the same line lost their closers to it.
    fn unclosed_line(&mut self) {
        let start = self.frames.last().map_or(self.at, |open| open.start);
        let span = Span {
            start,
            end: self.at,
        };
        let help = "close it with `\"`; text of several lines stands between `\"\"\"` and `\"\"\"`";
        self.error(
            "E002",
            "this string is not closed on its line".to_owned(),
            span,
            help,
        );
        let line_start = self.source[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        while self
            .frames
            .last()
            .is_some_and(|open| open.start >= line_start)
        {
            self.frames.pop();
        }
        self.after_operand = true;
    }

    fn close(&mut self, byte: u8) {
        let span = Span {
            start: self.at,
            end: self.at + 1,
        };
        let opener = self.frames.last().map(|open| (open.frame, open.start));
        let matches = match opener {
            Some((Frame::Hole, _)) => byte == b'}',
            Some((Frame::Bracket(open), _)) => closer_of(open) == byte as char,
            _ => false,
        };
        if matches {
            self.frames.pop();
            self.push(TokenKind::Close, span.start, span.end);
            self.after_operand = true;
            self.n_openless = 0;
            return;
        }
        let message = match opener {
            Some((Frame::Bracket(open), start)) => {
                let line = 1 + self.bytes[..start].iter().filter(|&&b| b == b'\n').count();
                let (open, closer) = (open as char, closer_of(open));
                format!(
                    "`{}` where `{closer}` should close the `{open}` of line {line}",
                    byte as char
                )
            }
            Some((Frame::Hole, _)) => {
                format!("`{}` where `}}` should close the `${{`", byte as char)
            }
            _ => format!("`{}` closes nothing", byte as char),
        };
        self.error(
            "E003",
            message,
            span,
            "every bracket closes the last one opened",
        );
        // Take it for the closer of an outer bracket where there is one, so that the rest stays in step.
        let text = self
            .frames
            .iter()
            .rposition(|o| matches!(o.frame, Frame::Line | Frame::Block));
        let outer = self.frames.iter().rposition(|open| match open.frame {
            Frame::Bracket(open) => closer_of(open) == byte as char,
            Frame::Hole => byte == b'}',
            _ => false,
        });
        // Either way the token says where the statement at fault is.
        if let Some(idx) = outer
            && text.is_none_or(|text| text < idx)
        {
            self.frames.truncate(idx);
            self.push(TokenKind::Close, span.start, span.end);
        } else {
            self.push(TokenKind::Mark, span.start, span.end);
        }
        self.after_operand = true;
    }

    /// Reports the innermost frame of every unclosed run and forgets all.
    fn close_all(&mut self) {
        let Some(open) = self.frames.last() else {
            return;
        };
        let start = open.start;
        let (message, len, help) = match open.frame {
            Frame::Bracket(byte) => {
                let closer = closer_of(byte);
                (
                    format!("this `{}` is never closed", byte as char),
                    1,
                    format!("add the missing `{closer}`"),
                )
            }
            Frame::Hole => (
                "this `${` is never closed".to_owned(),
                2,
                "add the missing `}`".to_owned(),
            ),
            Frame::Line => (
                "this string is not closed on its line".to_owned(),
                1,
                "close it with `\"`".to_owned(),
            ),
            Frame::Block => (
                "this `\"\"\"` is never closed".to_owned(),
                3,
                "close it with `\"\"\"` on a line of its own".to_owned(),
            ),
        };
        let code = if matches!(open.frame, Frame::Line | Frame::Block) {
            "E002"
        } else {
            "E003"
        };
        self.error(
            code,
            message,
            Span {
                start,
                end: start + len,
            },
            &help,
        );
        self.frames.clear();
        self.after_operand = true;
    }
}

/// Keywords that an expression follows.
fn expects_operand(word: &str) -> bool {
    matches!(
        word,
        "return"
            | "yield"
            | "fail"
            | "assert"
            | "matches"
            | "in"
            | "by"
            | "if"
            | "match"
            | "best"
            | "fork"
            | "system"
            | "user"
            | "assistant"
            | "observe"
    )
}

fn closer_of(open: u8) -> char {
    match open {
        b'(' => ')',
        b'[' => ']',
        _ => '}',
    }
}
