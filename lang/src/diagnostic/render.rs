//! Findings for people (snippets, through ariadne) and for machines (JSON).

use std::io::Write as _;

use ariadne::{CharSet, Color, Config, IndexType, Label, Report, ReportKind, Source};
use serde_json::{Value, json};

use super::{Diagnostic, Severity};
use crate::ast::Span;

/// The findings as text with source snippets, one after the other; colours only when asked for.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, source: &str, color: bool) -> String {
    let mut out = Vec::new();
    // A line that goes on for pages helps nobody, and laying it out costs its length for each finding.
    let is_sane = source.lines().all(|line| line.len() <= MAX_LINE);
    let mut snippets = (file_name, Source::from(if is_sane { source } else { "" }));
    for found in diagnostics {
        if is_sane
            && report(found, file_name, source, color)
                .write(&mut snippets, &mut out)
                .is_ok()
        {
            continue;
        }
        let (line, column) = line_column(source, found.span.start);
        let plain = format!(
            "{}[{}]: {} ({file_name}:{line}:{column})\n",
            found.severity, found.code, found.message
        );
        out.write_all(plain.as_bytes())
            .expect("writing to memory succeeds");
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The longest line shown in a snippet, in bytes.
const MAX_LINE: usize = 4_096;

fn report<'s>(
    found: &Diagnostic,
    file_name: &'s str,
    source: &str,
    color: bool,
) -> Report<'static, (&'s str, std::ops::Range<usize>)> {
    let (kind, tone) = match found.severity {
        Severity::Error => (ReportKind::Error, Color::Red),
        Severity::Warning => (ReportKind::Warning, Color::Yellow),
        Severity::Hint => (ReportKind::Advice, Color::Cyan),
    };
    let range = shown(found.span, source);
    let mut label = Label::new((file_name, range.clone())).with_color(tone);
    if !found.label.is_empty() {
        label = label.with_message(&found.label);
    }
    let config = Config::default()
        .with_color(color)
        .with_char_set(CharSet::Unicode)
        .with_index_type(IndexType::Byte);
    let mut report = Report::build(kind, (file_name, range))
        .with_config(config)
        .with_code(found.code)
        .with_message(&found.message)
        .with_label(label);
    if let Some(help) = &found.help {
        report = report.with_help(help);
    }
    report.finish()
}

/// The part of a span that is shown: its first line, on character boundaries, never past the source.
fn shown(span: Span, source: &str) -> std::ops::Range<usize> {
    let mut start = span.start.min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    let line_end = source[start..]
        .find('\n')
        .map_or(source.len(), |offset| start + offset);
    let mut end = span.end.clamp(start, line_end.max(start));
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    start..end
}

/// The findings as a JSON object: the file, and an array of findings, each with its one-based line and column (in
/// characters) of start and end besides the byte offsets.
pub fn to_json(diagnostics: &[Diagnostic], file_name: &str, source: &str) -> Value {
    let found: Vec<Value> = diagnostics
        .iter()
        .map(|found| {
            let (line, column) = line_column(source, found.span.start);
            let (end_line, end_column) = line_column(source, found.span.end);
            json!({
                "code": found.code,
                "severity": found.severity,
                "message": found.message,
                "label": found.label,
                "help": found.help,
                "start": found.span.start,
                "end": found.span.end,
                "line": line,
                "column": column,
                "end_line": end_line,
                "end_column": end_column,
            })
        })
        .collect();
    json!({ "file": file_name, "diagnostics": found })
}

/// The one-based line and column, in characters, of a byte offset.
pub fn line_column(source: &str, offset: usize) -> (usize, usize) {
    let mut at = offset.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        1 + before.matches('\n').count(),
        1 + before[line_start..].chars().count(),
    )
}
