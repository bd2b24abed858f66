//! ECMA-262 patterns, read with regex-syntax.
//!
//! The two dialects differ, so a pattern is adapted first: inside a class `[` and doubled `&`, `-`,
//! `~` are literals; `[]` matches nothing and `[^]` anything; `\d` and `\w` are ASCII; `\s` and `.`
//! follow ECMA-262's white space and line terminators. What a one-way automaton cannot do
//! (look-around, back-references, word boundaries, multi-line anchors) is refused with its byte
//! offset.
//!
//! Source: ECMA-262, section 22.2 (RegExp), in its Unicode mode.

use regex_syntax::ast::{self, Ast, ClassBracketed, ClassPerlKind, ClassSet, ClassSetItem};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, Look};

use crate::{GrammarError, Limits};

/// ECMA-262 white space and line terminators.
const SPACE: &str = r"[\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}]";
const DIGIT: &str = "[0-9]";
const WORD: &str = "[0-9A-Za-z_]";
/// What `.` matches: all but ECMA-262's line terminators.
const DOT: &str = r"[^\n\r\u{2028}\u{2029}]";

/// Reads a pattern; its anchors are left in place as `Start` and `End`, the only look-arounds of
/// the result.
pub(crate) fn parse(pattern: &str, limits: &Limits) -> Result<Hir, GrammarError> {
    if pattern.len() > limits.source_bytes {
        return Err(GrammarError::Limit {
            what: "the regex".into(),
            limit: "source_bytes",
            allowed: limits.source_bytes,
        });
    }
    let adapted = Adapted::new(pattern)?;
    let mut ast = ast::parse::ParserBuilder::new()
        .nest_limit(limits.depth as u32)
        .build()
        .parse(&adapted.pattern)
        .map_err(|error| adapted.refuse(error.span().start.offset, &error.kind()))?;
    let replace_dots = !contains_dotall(&ast);
    rewrite(&mut ast, replace_dots);
    let hir = TranslatorBuilder::new()
        .utf8(true)
        .crlf(true)
        .build()
        .translate(&adapted.pattern, &ast)
        .map_err(|error| adapted.refuse(error.span().start.offset, &error.kind()))?;
    let looks = hir.properties().look_set();
    match looks
        .iter()
        .find(|look| !matches!(look, Look::Start | Look::End))
    {
        None => Ok(hir),
        Some(look) => Err(GrammarError::Regex {
            offset: look_offset(&adapted, &ast),
            message: match look {
                Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF => {
                    "multi-line anchors are not supported".into()
                }
                _ => "word boundaries are not supported".into(),
            },
        }),
    }
}

/// A pattern in regex-syntax's dialect, with the way back to the original's offsets.
struct Adapted {
    pattern: String,
    /// Offset in the original of each byte of `pattern`, and of its end.
    offsets: Vec<usize>,
}

impl Adapted {
    fn new(original: &str) -> Result<Self, GrammarError> {
        let mut adapted = Self {
            pattern: String::new(),
            offsets: Vec::new(),
        };
        let mut chars = original.char_indices().peekable();
        let mut in_class = false;
        while let Some((offset, c)) = chars.next() {
            let next = chars.peek().map(|&(_, next)| next);
            match c {
                '\\' => {
                    adapted.push(offset, "\\");
                    if let Some((offset, escaped)) = chars.next() {
                        adapted.push(offset, escaped.encode_utf8(&mut [0; 4]));
                    }
                }
                '[' if in_class => adapted.push(offset, "\\["),
                '&' | '~' | '-' if in_class && next == Some(c) => {
                    adapted.push(offset, "\\");
                    adapted.push(offset, c.encode_utf8(&mut [0; 4]));
                }
                '[' if original[offset..].starts_with("[^]") => {
                    adapted.push(offset, r"[\s\S]");
                    chars.next();
                    chars.next();
                }
                '[' if next == Some(']') => {
                    adapted.push(offset, r"[^\s\S]");
                    chars.next();
                }
                '{' if !in_class && next == Some(',') => {
                    return Err(GrammarError::Regex {
                        offset,
                        message: "a repetition needs its minimum".into(),
                    });
                }
                _ => {
                    in_class = (in_class || c == '[') && c != ']';
                    adapted.push(offset, c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        adapted.offsets.push(original.len());
        Ok(adapted)
    }

    fn push(&mut self, offset: usize, text: &str) {
        self.pattern.push_str(text);
        self.offsets.resize(self.pattern.len(), offset);
    }

    fn refuse(&self, offset: usize, problem: &impl ToString) -> GrammarError {
        GrammarError::Regex {
            offset: self.offsets[offset],
            message: problem.to_string(),
        }
    }
}

/// Where the first assertion that is not `^` or `$`, or else the first flag, stands.
fn look_offset(adapted: &Adapted, ast: &Ast) -> usize {
    let mut found = None;
    visit(ast, &mut |ast| {
        let offset = match ast {
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine | ast::AssertionKind::EndLine => return,
                _ => assertion.span.start.offset,
            },
            Ast::Flags(flags) => flags.span.start.offset,
            _ => return,
        };
        found = found.or(Some(offset));
    });
    adapted.offsets[found.unwrap_or(0)]
}

fn contains_dotall(ast: &Ast) -> bool {
    let mut found = false;
    visit(ast, &mut |ast| {
        let flags = match ast {
            Ast::Flags(flags) => Some(&flags.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        found |= flags.is_some_and(|f| f.flag_state(ast::Flag::DotMatchesNewLine).is_some());
    });
    found
}

/// Calls `see` on every node; the parser's nest limit bounds the recursion.
fn visit(ast: &Ast, see: &mut impl FnMut(&Ast)) {
    see(ast);
    match ast {
        Ast::Repetition(repetition) => visit(&repetition.ast, see),
        Ast::Group(group) => visit(&group.ast, see),
        Ast::Alternation(alternation) => alternation.asts.iter().for_each(|ast| visit(ast, see)),
        Ast::Concat(concat) => concat.asts.iter().for_each(|ast| visit(ast, see)),
        _ => {}
    }
}

/// Puts ECMA-262's classes in place of regex-syntax's Unicode ones.
fn rewrite(ast: &mut Ast, replace_dots: bool) {
    match ast {
        Ast::Dot(_) if replace_dots => *ast = Ast::class_bracketed(class(DOT, false)),
        Ast::ClassPerl(perl) => *ast = Ast::class_bracketed(perl_class(&perl.kind, perl.negated)),
        Ast::ClassBracketed(bracketed) => rewrite_set(&mut bracketed.kind),
        Ast::Repetition(repetition) => rewrite(&mut repetition.ast, replace_dots),
        Ast::Group(group) => rewrite(&mut group.ast, replace_dots),
        Ast::Alternation(alternation) => {
            alternation
                .asts
                .iter_mut()
                .for_each(|ast| rewrite(ast, replace_dots));
        }
        Ast::Concat(concat) => concat
            .asts
            .iter_mut()
            .for_each(|ast| rewrite(ast, replace_dots)),
        _ => {}
    }
}

/// Classes hold no classes and no operators once adapted, so a set is a flat union.
fn rewrite_set(set: &mut ClassSet) {
    let ClassSet::Item(item) = set else { return };
    let items = match item {
        ClassSetItem::Union(union) => union.items.as_mut_slice(),
        single => std::slice::from_mut(single),
    };
    for item in items {
        if let ClassSetItem::Perl(perl) = item {
            *item = ClassSetItem::Bracketed(Box::new(perl_class(&perl.kind, perl.negated)));
        }
    }
}

fn perl_class(kind: &ClassPerlKind, negated: bool) -> ClassBracketed {
    let positive = match kind {
        ClassPerlKind::Digit => DIGIT,
        ClassPerlKind::Space => SPACE,
        ClassPerlKind::Word => WORD,
    };
    class(positive, negated)
}

fn class(pattern: &str, negated: bool) -> ClassBracketed {
    match ast::parse::Parser::new().parse(pattern) {
        Ok(Ast::ClassBracketed(ref class)) => ClassBracketed {
            negated: class.negated ^ negated,
            ..(**class).clone()
        },
        _ => unreachable!("the constant patterns are single classes"),
    }
}
