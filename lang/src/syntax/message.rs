//! What a stop of the parser means, in a sentence: known confusions first, then what was expected.

use super::recover::{is_item_word, is_statement_word};
use super::scan::{Scan, Token, TokenKind};
use super::{Rule, Stop};
use crate::Diagnostic;
use crate::ast::Span;
use crate::options::{Place, options_of};

/// The tokens around the stop.
struct Around<'s> {
    text: &'s str,
    tokens: &'s [Token],
    /// The token the parser stopped at; one past the last at the end of the file.
    at: usize,
}

impl<'s> Around<'s> {
    fn word(&self, offset: isize) -> &'s str {
        self.token(offset)
            .map_or("", |token| &self.text[token.span.start..token.span.end])
    }

    fn token(&self, offset: isize) -> Option<&'s Token> {
        self.at
            .checked_add_signed(offset)
            .and_then(|idx| self.tokens.get(idx))
    }

    /// The word before the innermost open bracket.
    fn opener_word(&self) -> &'s str {
        let depth = self.token(0).map_or(0, |token| token.depth);
        let open = self.tokens[..self.at.min(self.tokens.len())]
            .iter()
            .rposition(|token| token.depth < depth && token.kind == TokenKind::Open);
        open.and_then(|idx| idx.checked_sub(1)).map_or("", |idx| {
            let span = self.tokens[idx].span;
            &self.text[span.start..span.end]
        })
    }
}

/// The diagnostic of a stop.
pub(super) fn of(text: &str, scanned: &Scan, stop: &Stop) -> Diagnostic {
    let at = scanned
        .tokens
        .partition_point(|token| token.span.start < stop.at);
    let around = Around {
        text,
        tokens: &scanned.tokens,
        at,
    };
    let span = around.token(0).map_or_else(
        || {
            let end = text.trim_end().len();
            Span {
                start: end.min(stop.at),
                end: end.min(stop.at),
            }
        },
        |token| token.span,
    );
    if stop.gave_up {
        return Diagnostic::new(
            "E004",
            span,
            "this text nests too deeply or is too long to be read",
        )
        .help("move a part into a `let`, a `fn` or a `part`");
    }
    doc_comment(text, stop)
        .or_else(|| confusion(&around, span))
        .unwrap_or_else(|| expected(&around, stop, span))
}

/// A `///` where no item or field follows.
fn doc_comment(text: &str, stop: &Stop) -> Option<Diagnostic> {
    let rest = &text[stop.at..];
    let rest = rest.trim_start();
    rest.starts_with("///").then(|| {
        let start = text.len() - rest.len();
        let end = start + rest.find('\n').unwrap_or(rest.len());
        Diagnostic::new(
            "E001",
            Span { start, end },
            "a `///` comment cannot stand here",
        )
        .help("`///` stands above an item or a field; use `//` here")
    })
}

/// Mistakes with a name of their own.
fn confusion(around: &Around<'_>, span: Span) -> Option<Diagnostic> {
    let (word, before) = (around.word(0), around.word(-1));
    let before_is_word = around
        .token(-1)
        .is_some_and(|token| token.kind == TokenKind::Word);
    let opener = around.opener_word();
    if word == ":" && before_is_word {
        return option_colon(before, opener, around.word(1), span);
    }
    if is_item_word(word)
        && around
            .token(0)
            .is_some_and(|token| token.depth > 0 && token.first)
    {
        let message = format!("`{word}` stands at the top level of a file only");
        return Some(Diagnostic::new("E010", span, message).help("move it out of the block"));
    }
    if let Some(smart) = word
        .chars()
        .next()
        .filter(|c| "\u{201C}\u{201D}\u{201E}\u{2018}\u{2019}'`".contains(*c))
    {
        let message = format!("`{smart}` is no quote of this language");
        return Some(
            Diagnostic::new("E014", span, message).help("strings stand between `\"` and `\"`"),
        );
    }
    if word == ";" {
        return Some(
            Diagnostic::new("E001", span, "statements are not separated by `;`")
                .help("leave it out: a statement ends where the next begins"),
        );
    }
    let wants_name = matches!(
        before,
        "let" | "var" | "for" | "fn" | "part" | "input" | "type" | "tool"
    );
    if wants_name && (is_item_word(word) || is_statement_word(word) || is_reserved(word)) {
        let message = format!("`{word}` is a word of the language and cannot be a name");
        return Some(
            Diagnostic::new("E013", span, message)
                .help(format!("call it `{word}_` or by another name")),
        );
    }
    if matches!(word, "else") {
        return Some(
            Diagnostic::new("E001", span, "this `else` belongs to no `if`")
                .help("`else` follows the closing `}` of an `if`, an `else if` or an `attempt`"),
        );
    }
    None
}

/// `max_tokens: 40`.
fn option_colon(name: &str, opener: &str, value: &str, span: Span) -> Option<Diagnostic> {
    if matches!(opener, "gen" | "select" | "with" | "budget") {
        let message = format!("the option `{name}` is given with `=`, not with `:`");
        let found =
            Diagnostic::new("E009", span, message).label("`:` is always followed by a type");
        return Some(found.help(format!("write `{name}={value}`")));
    }
    is_option(name).then(|| {
        Diagnostic::new(
            "E009",
            span,
            format!("`{name}:` is no option: options have `=`"),
        )
        .help(format!("write `{name}=..`"))
    })
}

fn is_option(word: &str) -> bool {
    [Place::Gen, Place::Select, Place::Fork, Place::Best]
        .iter()
        .any(|&place| options_of(place).iter().any(|option| option.name == word))
}

fn is_reserved(word: &str) -> bool {
    matches!(
        word,
        "else" | "in" | "gen" | "select" | "fork" | "best" | "true" | "false" | "null" | "matches"
    )
}

fn expected(around: &Around<'_>, stop: &Stop, span: Span) -> Diagnostic {
    let mut wanted: Vec<&str> = stop
        .expected
        .iter()
        .filter_map(|&rule| describe(rule))
        .collect();
    // Trailers and operators may follow almost anything; they say nothing where something else is due.
    if wanted.iter().any(|want| *want != "an operator") {
        wanted.retain(|want| *want != "an operator");
    }
    wanted.sort_unstable();
    wanted.dedup();
    let found = match around.token(0) {
        None => "the end of the file".to_owned(),
        Some(token) if token.kind == TokenKind::TextStart => "a string".to_owned(),
        Some(_) => format!("`{}`", around.word(0)),
    };
    let wanted = match wanted.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        [most @ .., last] if most.len() < 5 => Some(format!("{} or {last}", most.join(", "))),
        _ => None,
    };
    match wanted {
        Some(wanted) => Diagnostic::new("E001", span, format!("expected {wanted}, found {found}"))
            .label(format!("expected {wanted}")),
        None => Diagnostic::new("E001", span, format!("{found} cannot stand here"))
            .help("a statement begins with a keyword, a name or a string"),
    }
}

/// What a rule is called in a message; none for what would only distract.
fn describe(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::name | Rule::word | Rule::gen_name | Rule::variable | Rule::path => "a name",
        Rule::ty | Rule::variant | Rule::base | Rule::named => "a type",
        Rule::expr | Rule::unary | Rule::primary | Rule::postfix | Rule::line_expr => "a value",
        Rule::block => "a block `{ .. }`",
        Rule::statement | Rule::entry | Rule::item | Rule::expr_stmt => "a statement",
        Rule::string => "a string",
        Rule::number => "a number",
        Rule::low | Rule::high => "a number",
        Rule::colon => "`:`",
        Rule::equals => "`=`",
        Rule::comma => "`,`",
        Rule::arrow => "`->`",
        Rule::fat_arrow => "`=>`",
        Rule::open_paren | Rule::params | Rule::options => "`(`",
        Rule::close_paren => "`)`",
        Rule::open_brace => "`{`",
        Rule::close_brace => "`}`",
        Rule::close_bracket => "`]`",
        Rule::record => "`{`",
        Rule::field => "a field",
        Rule::arm | Rule::pattern => "a pattern",
        Rule::binding => "`run`, `http`, `mcp`, `host` or a block",
        Rule::kw_in => "`in`",
        Rule::kw_by => "`by`",
        Rule::kw_max => "`max`",
        Rule::kw_from => "`from`",
        Rule::kw_as => "`as`",
        Rule::else_block | Rule::else_if => return None,
        Rule::infix | Rule::index | Rule::arguments | Rule::member | Rule::prefix => "an operator",
        Rule::option | Rule::argument => "an option",
        Rule::EOI => "a statement",
        _ => return None,
    })
}
