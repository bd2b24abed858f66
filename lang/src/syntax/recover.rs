//! Recovery: every error of a file in one run.
//!
//! Where the parser stops, the innermost statement (or item) around that place is reported, overwritten with blanks
//! and the file parsed again; offsets do not move. A *region* is such a statement: from its first token to the next
//! statement of the same block or the block's end, so brackets stay balanced.

use super::scan::{Scan, Token, TokenKind, scan};
use super::{Parsed, Stop, attempt, message};
use crate::Diagnostic;
use crate::ast::Span;

/// The most errors reported for one file.
const MAX_ERRORS: usize = 50;

/// The most bytes parsed again for the sake of further errors.
const MAX_WORK: usize = 4 << 20;

pub(super) fn parse(source: &str, mut scanned: Scan) -> Parsed {
    let mut text = source.to_owned();
    let mut out = Parsed::default();
    let mut work = 0;
    loop {
        // Brackets and strings first: the parser is only shown text whose nesting is known to be bounded.
        if !scanned.errors.is_empty() {
            scanned.errors.truncate(MAX_ERRORS);
            let regions: Vec<Span> = scanned
                .errors
                .iter()
                .map(|error| structural_region(&text, &scanned, error))
                .collect();
            let is_final = scanned.errors.iter().any(|error| error.code == "E004");
            out.diagnostics.append(&mut scanned.errors);
            for region in regions {
                blank(&mut text, region, &mut out.lost_words);
            }
            if is_final {
                break;
            }
        } else {
            match attempt(&text, &scanned) {
                Ok((file, mut errors)) => {
                    out.file = file;
                    out.diagnostics.append(&mut errors);
                    break;
                }
                Err(stop) => {
                    out.diagnostics.push(message::of(&text, &scanned, &stop));
                    let Some(region) = region(&text, &scanned, &stop) else {
                        break;
                    };
                    blank(&mut text, region, &mut out.lost_words);
                }
            }
        }
        work += text.len();
        if out.diagnostics.len() >= MAX_ERRORS || work > MAX_WORK {
            break;
        }
        scanned = scan(&text);
    }
    out.diagnostics
        .sort_by_key(|found| (found.span.start, found.span.end));
    out.diagnostics.dedup();
    out
}

/// Overwrites a region with blanks, line ends kept, and remembers its words.
fn blank(text: &mut String, region: Span, lost_words: &mut Vec<String>) {
    let lost = &text[region.start..region.end];
    let words = lost
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty());
    lost_words.extend(words.map(str::to_owned));
    let blanks: String = lost
        .chars()
        .flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8()))
        .collect();
    text.replace_range(region.start..region.end, &blanks);
}

/// What to blank for a bracket or string at fault. A closer that matches nothing, or the wrong opener, is in some
/// statement; what is left open goes from the start of the outermost statement that holds it to the next line that
/// begins at the left margin with a word.
fn structural_region(text: &str, scanned: &Scan, error: &Diagnostic) -> Span {
    let at = error.span.start;
    if text[at..].starts_with(['}', ')', ']']) {
        let stop = Stop {
            at,
            expected: Vec::new(),
            gave_up: false,
        };
        return region(text, scanned, &stop).unwrap_or(error.span);
    }
    let starts_line = |token: &&Token| {
        token.first
            && token.kind == TokenKind::Word
            && text[..token.span.start]
                .rsplit('\n')
                .next()
                .is_some_and(str::is_empty)
    };
    let start = scanned
        .tokens
        .iter()
        .filter(|token| token.span.start <= at)
        .rfind(starts_line);
    let start = start.map_or(0, |token| token.span.start);
    let after = error.span.end.max(start + 1);
    // The tokens end where the scan did; what a string left open has swallowed is lost with it.
    let end = scanned
        .tokens
        .iter()
        .filter(|token| token.span.start >= after)
        .find(starts_line);
    let end = end.map_or(text.len(), |token| token.span.start);
    Span {
        start,
        end: end.max(error.span.end),
    }
}

/// The statement or item to blame for a stop; none when nothing is left to blank.
fn region(text: &str, scanned: &Scan, stop: &Stop) -> Option<Span> {
    let tokens = &scanned.tokens;
    let at = tokens.partition_point(|token| token.span.start < stop.at);
    let mut place = at;
    loop {
        let block = Block::around(text, tokens, place);
        let starts: Vec<usize> = block.starts(text, tokens);
        let blames_previous = place == at && !is_misplaced_item(text, tokens, at, &block);
        let own = starts.iter().rposition(|&start| {
            if blames_previous {
                start < at
            } else {
                start <= place
            }
        });
        if let Some(own) = own {
            let first = starts[own];
            let next = starts[own + 1..]
                .iter()
                .find(|&&start| start > first && (start >= at || !blames_previous));
            let last = next.map_or(block.end, |&start| start);
            let start = tokens[first].span.start;
            let end = if last < tokens.len() {
                tokens[last].span.start
            } else {
                text.len()
            };
            if !text[start..end].trim().is_empty() {
                return Some(Span { start, end });
            }
        }
        // Nothing before it in its block: the token itself, then whatever holds the block.
        if let Some(token) = tokens.get(at)
            && place == at
            && token.depth == block.depth
            && !matches!(
                token.kind,
                TokenKind::Open | TokenKind::Close | TokenKind::TextStart | TokenKind::TextEnd
            )
        {
            return Some(token.span);
        }
        place = block.open?;
    }
}

fn is_misplaced_item(text: &str, tokens: &[Token], at: usize, block: &Block) -> bool {
    block.open.is_some()
        && tokens
            .get(at)
            .is_some_and(|token| is_item_word(word(text, token)))
}

/// A block's frame: the index of its opener, none for the file, and of its closer.
struct Block {
    open: Option<usize>,
    end: usize,
    depth: usize,
}

impl Block {
    /// The innermost block around the token at `place`.
    fn around(text: &str, tokens: &[Token], place: usize) -> Block {
        let mut depth = tokens.get(place).map_or(usize::MAX, |token| token.depth);
        for idx in (0..place.min(tokens.len())).rev() {
            let token = &tokens[idx];
            if token.depth >= depth || !matches!(token.kind, TokenKind::Open | TokenKind::TextStart)
            {
                continue;
            }
            depth = token.depth;
            if token.kind == TokenKind::Open && is_block(text, tokens, idx) {
                let close = tokens[idx + 1..]
                    .iter()
                    .position(|token| token.depth <= depth);
                let end = close.map_or(tokens.len(), |offset| idx + 1 + offset);
                return Block {
                    open: Some(idx),
                    end,
                    depth: depth + 1,
                };
            }
        }
        Block {
            open: None,
            end: tokens.len(),
            depth: 0,
        }
    }

    /// The tokens at which its statements begin.
    fn starts(&self, text: &str, tokens: &[Token]) -> Vec<usize> {
        let from = self.open.map_or(0, |open| open + 1);
        (from..self.end)
            .filter(|&idx| tokens[idx].depth == self.depth)
            .filter(|&idx| idx == from || begins_statement(text, tokens, idx))
            .collect()
    }
}

fn word<'s>(text: &'s str, token: &Token) -> &'s str {
    &text[token.span.start..token.span.end]
}

pub(super) fn is_item_word(word: &str) -> bool {
    matches!(
        word,
        "fn" | "part" | "type" | "tool" | "import" | "input" | "model" | "budget" | "test"
    )
}

pub(super) fn is_statement_word(word: &str) -> bool {
    matches!(
        word,
        "let"
            | "var"
            | "if"
            | "for"
            | "loop"
            | "match"
            | "attempt"
            | "return"
            | "yield"
            | "assert"
            | "fail"
            | "pin"
            | "break"
            | "continue"
            | "system"
            | "user"
            | "assistant"
            | "observe"
    )
}

/// Whether the token opens a block of statements: a `{` after something complete, and no record or list of arms.
fn is_block(text: &str, tokens: &[Token], idx: usize) -> bool {
    if word(text, &tokens[idx]) != "{" || idx == 0 {
        return false;
    }
    let depth = tokens[idx].depth;
    let before = &tokens[idx - 1];
    let complete = match before.kind {
        TokenKind::Word => !matches!(
            word(text, before),
            "return" | "yield" | "fail" | "assert" | "in" | "by" | "import"
        ),
        TokenKind::Mark => match word(text, before) {
            "?" => true,
            ">" => idx >= 2 && word(text, &tokens[idx - 2]) == "=",
            _ => false,
        },
        TokenKind::Open => false,
        _ => true,
    };
    let is_record =
        idx >= 2 && word(text, &tokens[idx - 2]) == "type" && tokens[idx - 2].depth == depth;
    let keyword = tokens[..idx]
        .iter()
        .rev()
        .take_while(|token| token.depth >= depth)
        .filter(|token| token.depth == depth && token.kind == TokenKind::Word)
        .map(|token| word(text, token))
        .find(|word| *word == "match" || is_statement_word(word) || is_item_word(word));
    complete && !is_record && keyword != Some("match")
}

fn begins_statement(text: &str, tokens: &[Token], idx: usize) -> bool {
    let token = &tokens[idx];
    let before = &tokens[idx - 1];
    let before_ends = match before.kind {
        TokenKind::Mark => word(text, before) == "?",
        TokenKind::Open | TokenKind::TextStart => false,
        TokenKind::Word => !matches!(
            word(text, before),
            "in" | "matches" | "else" | "by" | "with"
        ),
        _ => true,
    };
    match token.kind {
        TokenKind::Word => {
            let word = word(text, token);
            if matches!(word, "else" | "in" | "matches" | "retry" | "with" | "by") {
                return false;
            }
            if is_statement_word(word) || is_item_word(word) {
                return token.first || before_ends;
            }
            token.first && before_ends
        }
        TokenKind::TextStart => token.first && before_ends,
        _ => false,
    }
}
