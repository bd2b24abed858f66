//! Tests of findings and how they are shown.

use super::*;

/// Every code that the sources of this crate report.
fn reported() -> Vec<String> {
    fn visit(folder: &std::path::Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.ends_with("codes.rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(path).unwrap();
                for piece in text.split('"') {
                    let is_code = piece.len() == 4
                        && piece.starts_with(['E', 'W', 'L'])
                        && piece[1..].bytes().all(|b| b.is_ascii_digit());
                    if is_code {
                        out.push(piece.to_owned());
                    }
                }
            }
        }
    }
    let mut out = Vec::new();
    visit(std::path::Path::new("src"), &mut out);
    out.sort();
    out.dedup();
    out
}

#[test]
fn every_code_is_explained_and_every_explanation_reported() {
    let explained: Vec<&str> = codes::CODES.iter().map(|(code, _)| *code).collect();
    let reported = reported();
    assert!(reported.len() > 50);
    for code in &reported {
        assert!(explain(code).is_some(), "{code} has no explanation");
    }
    for code in explained {
        assert!(
            reported.iter().any(|own| own == code),
            "{code} is never reported"
        );
    }
}

#[test]
fn snippets_point_and_take_no_colour_unasked() {
    let source = "let a = 1\nlet ö = \"ä\" + 2\n";
    let start = source.find("\"ä\" + 2").unwrap();
    let span = Span {
        start,
        end: source.len() - 1,
    };
    let found = Diagnostic::new("E208", span, "no sum")
        .label("here")
        .help("write one");
    let plain = render(std::slice::from_ref(&found), "a.lmp", source, false);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    for part in ["E208", "Error", "no sum", "a.lmp:2:9", "here", "write one"] {
        assert!(plain.contains(part), "{part} in {plain}");
    }
    assert!(render(&[found], "a.lmp", source, true).contains('\u{1b}'));
}

#[test]
fn places_are_lines_and_columns_in_characters() {
    let source = "a\nöx";
    assert_eq!(line_column(source, 0), (1, 1));
    assert_eq!(line_column(source, 2), (2, 1));
    assert_eq!(line_column(source, 4), (2, 2));
    assert_eq!(line_column(source, 99), (2, 3));
    let found = Diagnostic::new("W202", Span { start: 4, end: 5 }, "never");
    let json = to_json(&[found], "a.lmp", source);
    assert_eq!(json["file"], "a.lmp");
    assert_eq!(json["diagnostics"][0]["line"], 2);
    assert_eq!(json["diagnostics"][0]["column"], 2);
    assert_eq!(json["diagnostics"][0]["severity"], "warning");
}

#[test]
fn spans_out_of_the_source_are_rendered_all_the_same() {
    let found = Diagnostic::new("E001", Span { start: 50, end: 60 }, "beyond");
    assert!(render(&[found], "a.lmp", "ab", false).contains("beyond"));
}
