//! Strings: escapes of one-line strings, indentation of blocks.
//!
//! A *piece* is what the grammar tells apart inside the quotes: text, a hole, an escape, `$${`. The bytes that result
//! are the bytes sent, so every rule here is one of the reference's: nothing else is added, removed or joined.

use crate::Diagnostic;
use crate::ast::{Expr, Span, TemplatePart};

/// A piece of a string before its layout is resolved.
#[derive(Debug)]
pub(super) enum Piece<'s> {
    /// Text as written.
    Text(&'s str, Span),
    /// Text that stands for other text: an escape, `$${`.
    Meant(String, Span),
    /// `${expr}`.
    Hole(Expr),
}

/// What an escape sequence stands for.
pub(super) fn escape(text: &str, span: Span) -> Result<String, Diagnostic> {
    let plain = match text.as_bytes()[1] {
        b'n' => "\n",
        b'r' => "\r",
        b't' => "\t",
        b'\\' => "\\",
        b'"' => "\"",
        b'$' => "$",
        b'u' => return unicode_escape(text, span),
        _ => {
            let message = format!("`{text}` is no escape");
            let help = r#"escapes are \n \r \t \\ \" \$ \u{1F600}; write \\ for a backslash, or use r"...""#;
            return Err(Diagnostic::new("E006", span, message).help(help));
        }
    };
    Ok(plain.to_owned())
}

fn unicode_escape(text: &str, span: Span) -> Result<String, Diagnostic> {
    text.strip_prefix("\\u{")
        .and_then(|hex| hex.strip_suffix('}'))
        .filter(|hex| (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|hex| u32::from_str_radix(hex, 16).ok())
        .and_then(char::from_u32)
        .map(String::from)
        .ok_or_else(|| {
            Diagnostic::new("E006", span, format!("`{text}` names no character")).help(
                "write one to six hexadecimal digits of a Unicode scalar value, as in \\u{1F600}",
            )
        })
}

/// Joins neighbouring text and drops what is empty.
pub(super) fn join(pieces: Vec<Piece<'_>>) -> Vec<TemplatePart> {
    let mut parts: Vec<TemplatePart> = Vec::new();
    for piece in pieces {
        let (text, span) = match piece {
            Piece::Hole(expr) => {
                parts.push(TemplatePart::Hole(Box::new(expr)));
                continue;
            }
            Piece::Text(text, span) => (text.to_owned(), span),
            Piece::Meant(text, span) => (text, span),
        };
        match parts.last_mut() {
            _ if text.is_empty() => {}
            Some(TemplatePart::Text(before, place)) => {
                before.push_str(&text);
                place.end = span.end;
            }
            _ => parts.push(TemplatePart::Text(text, span)),
        }
    }
    parts
}

/// Takes the layout of a `"""` block away: the newline after the opener, the closer's line, the closer's indentation
/// before every line. `span` is the whole string's.
pub(super) fn unindent<'s>(
    mut pieces: Vec<Piece<'s>>,
    span: Span,
) -> Result<Vec<Piece<'s>>, Diagnostic> {
    let layout = |message: &str, at: Span| {
        Diagnostic::new("E008", at, message)
            .help("a block's text stands on lines of its own: `\"\"\"`, the text, and `\"\"\"` alone on its line")
    };
    let opener = Span {
        start: span.start,
        end: span.start + 3,
    };
    let closer = Span {
        start: span.end - 3,
        end: span.end,
    };
    let starts = match pieces.first() {
        Some(Piece::Text(text, _)) => text
            .trim_start_matches([' ', '\t'])
            .trim_start_matches('\r')
            .starts_with('\n'),
        _ => false,
    };
    if !starts {
        return Err(layout("text begins on the line after `\"\"\"`", opener));
    }
    let closing = match pieces.last() {
        Some(Piece::Text(text, place)) => text.rfind('\n').map(|newline| (*text, *place, newline)),
        _ => None,
    };
    let alone = closing
        .filter(|(text, _, newline)| text[newline + 1..].trim_matches([' ', '\t']).is_empty());
    let Some((text, place, newline)) = alone else {
        return Err(layout(
            "the closing `\"\"\"` stands alone on its line",
            closer,
        ));
    };
    let indent = &text[newline + 1..];
    let is_empty = pieces.len() == 1
        && text[..newline].trim_matches([' ', '\t', '\r']).is_empty()
        && !text[..newline].contains('\n');
    if is_empty {
        return Ok(Vec::new());
    }
    let kept = text[..newline]
        .strip_suffix('\r')
        .unwrap_or(&text[..newline]);
    let end = place.start + kept.len();
    *pieces.last_mut().expect("a last piece was just matched") = Piece::Text(
        kept,
        Span {
            start: place.start,
            end,
        },
    );
    strip_lines(pieces, indent)
}

/// Removes `indent` from the start of every line; the first piece begins with the opener's line end.
fn strip_lines<'s>(pieces: Vec<Piece<'s>>, indent: &str) -> Result<Vec<Piece<'s>>, Diagnostic> {
    let mut out = Vec::with_capacity(pieces.len());
    let mut seen_opener = false;
    // How much of the indentation the current line still owes; 0 once past it.
    let mut owed = 0;
    let n_pieces = pieces.len();
    for (idx, piece) in pieces.into_iter().enumerate() {
        let (text, place) = match piece {
            Piece::Text(text, place) => (text, place),
            Piece::Meant(_, place) if owed > 0 => return Err(under_indented(place)),
            Piece::Hole(ref expr) if owed > 0 => return Err(under_indented(expr.span)),
            other => {
                out.push(other);
                continue;
            }
        };
        let mut at = place.start;
        for line in text.split_inclusive('\n') {
            let span = Span {
                start: at,
                end: at + line.len(),
            };
            at = span.end;
            let (body, newline) = match line.strip_suffix('\n') {
                Some(body) => (body.strip_suffix('\r').unwrap_or(body), "\n"),
                None => (line, ""),
            };
            if !seen_opener {
                // What stands between the opener and its line's end is no content.
                seen_opener = true;
            } else if owed == 0 {
                push_line(&mut out, body, newline, span);
            } else if let Some(rest) = body.strip_prefix(indent) {
                push_line(
                    &mut out,
                    rest,
                    newline,
                    Span {
                        start: span.start + indent.len(),
                        end: span.end,
                    },
                );
            } else if body.trim_matches([' ', '\t']).is_empty()
                && (!newline.is_empty() || idx + 1 == n_pieces)
            {
                push_line(&mut out, "", newline, span);
            } else {
                return Err(under_indented(span));
            }
            owed = if newline.is_empty() { 0 } else { indent.len() };
        }
    }
    Ok(out)
}

fn push_line(out: &mut Vec<Piece<'_>>, body: &str, newline: &str, span: Span) {
    out.push(Piece::Meant(format!("{body}{newline}"), span));
}

fn under_indented(span: Span) -> Diagnostic {
    Diagnostic::new("E008", span, "this line is indented less than the closing `\"\"\"`")
        .label("begins left of the closer")
        .help("the closer's indentation is removed from every line: move the closer left or the line right")
}
