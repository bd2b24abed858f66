//! What looks wrong in literal text: trailing spaces, braces of other template languages, invisible characters.

use crate::Diagnostic;
use crate::ast::*;

use super::Checker;

/// Characters that change the direction of what follows, so that a program reads as something else.
const BIDI: [char; 9] = [
    '\u{202A}', '\u{202B}', '\u{202C}', '\u{202D}', '\u{202E}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

impl<'p> Checker<'p, '_> {
    /// The literal text of a string, wherever it stands.
    pub(super) fn template_texts(&mut self, template: &'p Template) {
        let written = self.text(template.span);
        if written.starts_with("\"\"\"") {
            self.trailing_spaces(written, template.span);
        }
        for part in &template.parts {
            if let TemplatePart::Text(_, span) = part {
                self.double_braces(*span);
            }
        }
    }

    fn trailing_spaces(&mut self, written: &str, span: Span) {
        let mut at = span.start;
        for line in written.split_inclusive('\n') {
            let body = line.trim_end_matches(['\n', '\r']);
            let kept = body.trim_end_matches([' ', '\t']);
            if kept.len() < body.len()
                && !kept.is_empty()
                && line.len() > body.len()
                && kept != "\"\"\""
            {
                let place = Span {
                    start: at + kept.len(),
                    end: at + body.len(),
                };
                let found = Diagnostic::new("W203", place, "spaces at the end of a line of text");
                self.report(
                    found
                        .label("they are sent")
                        .help("remove them; if they are meant, write `${\" \"}`"),
                );
            }
            at += line.len();
        }
    }

    /// `{{name}}` where the name exists is most likely meant as a hole.
    fn double_braces(&mut self, span: Span) {
        let text = self.text(span);
        let mut from = 0;
        while let Some(open) = text[from..].find("{{").map(|at| from + at) {
            from = open + 2;
            let Some(close) = text[from..].find("}}") else {
                return;
            };
            let name = text[from..from + close].trim();
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let exists = self.scopes.find(name).is_some() || self.inputs.contains_key(name);
            if is_name && exists {
                let place = Span {
                    start: span.start + open,
                    end: span.start + from + close + 2,
                };
                let message = format!("`{{{{{name}}}}}` is sent as it stands");
                self.report(
                    Diagnostic::new("L205", place, message)
                        .help(format!("a value is inserted by `${{{name}}}`")),
                );
            }
        }
    }

    /// A hole of a prompt glued to letters: the token before or after it depends on the value.
    pub(super) fn mid_word(&mut self, template: &'p Template, idx: usize, hole: &'p Expr) {
        let text = |part: Option<&'p TemplatePart>| match part {
            Some(TemplatePart::Text(text, _)) => Some(text.as_str()),
            _ => None,
        };
        let before = idx
            .checked_sub(1)
            .and_then(|idx| text(template.parts.get(idx)));
        let glued = before.is_some_and(|text| text.ends_with(char::is_alphanumeric));
        let generates = matches!(hole.kind, ExprKind::Gen(_) | ExprKind::Select(_));
        if glued && !generates {
            let found = Diagnostic::new("L204", hole.span, "this value joins the word before it");
            self.report(found.help("the tokens of that word change with the value: a space or a line end between them keeps the prefix shared"));
        }
    }

    /// Characters of direction anywhere in the source.
    pub(super) fn bidi(&mut self) {
        for (at, c) in self
            .source
            .char_indices()
            .filter(|(_, c)| BIDI.contains(c))
            .take(16)
        {
            let span = Span {
                start: at,
                end: at + c.len_utf8(),
            };
            let message = format!(
                "the invisible character U+{:04X} changes how this line reads",
                u32::from(c)
            );
            self.report(
                Diagnostic::new("W211", span, message)
                    .help("remove it; in a string write it as an escape, \\u{..}"),
            );
        }
    }
}
