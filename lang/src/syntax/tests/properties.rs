//! Whatever the source, reading and checking it ends, says where, and never panics.

use proptest::prelude::*;

use crate::{NoHost, check, render};

/// The reference's tour.
pub(super) const TOUR: [&str; 5] = [
    include_str!("../tour/hello.lmp"),
    include_str!("../tour/extract.lmp"),
    include_str!("../tour/review.lmp"),
    include_str!("../tour/agent.lmp"),
    include_str!("../tour/retry.lmp"),
];

/// Pieces a source is made of, well formed or not.
const PIECES: &[&str] = &[
    "user ",
    "system ",
    "assistant ",
    "observe ",
    "gen(",
    "select(",
    "fork ",
    "best ",
    " by ",
    " with (",
    "let ",
    "var ",
    "if ",
    "else ",
    "for ",
    " in ",
    "loop max ",
    "match ",
    "attempt 2 ",
    "retry e ",
    "return ",
    "yield ",
    "assert ",
    "fail ",
    "pin ",
    "break ",
    "continue ",
    "fn ",
    "part ",
    "type ",
    "tool ",
    "import ",
    "input ",
    "model ",
    "budget ",
    "test ",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\"",
    "\"\"\"",
    "\n",
    "\n  ",
    "${",
    "$${",
    "r\"",
    "r#\"",
    "\"#",
    "/",
    "\\",
    "=",
    "==",
    "=>",
    "->",
    ":",
    ",",
    "?",
    "??",
    "|",
    "||",
    "&&",
    "+",
    "+=",
    "-",
    "*",
    "%",
    "<",
    "..",
    ".",
    "a",
    "b",
    "x",
    "string",
    "int",
    "(1..5)",
    "1",
    "2.5",
    "8k",
    "10s",
    "true",
    "null",
    "// c\n",
    "/// d\n",
    "é",
    "\u{202E}",
    "\0",
    "max_tokens=",
    "temperature=0",
    "matches ",
    "format(",
    "scores(",
    "len(",
    "'",
    ";",
    "#!",
];

/// Reads, checks and shows; what it says lies in the source.
fn survives(source: &str) {
    let checked = check("p.lmp", source, &NoHost);
    assert_eq!(
        checked.program.is_none(),
        checked.diagnostics.iter().any(crate::Diagnostic::is_error)
    );
    let mut last = 0;
    for found in &checked.diagnostics {
        assert!(
            found.span.start <= found.span.end && found.span.end <= source.len(),
            "{found:?}"
        );
        assert!(
            source.is_char_boundary(found.span.start) && source.is_char_boundary(found.span.end),
            "{found:?}"
        );
        assert!(found.span.start >= last, "findings are sorted");
        last = found.span.start;
    }
    render(&checked.diagnostics, "p.lmp", source, false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pieces_in_any_order(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        survives(&pieces.concat());
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn changed_programs(
        which in 0..TOUR.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..12, proptest::sample::select(PIECES)), 1..4),
    ) {
        let mut chars: Vec<char> = TOUR[which].chars().collect();
        for (at, n_removed, piece) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + n_removed).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        survives(&chars.into_iter().collect::<String>());
    }
}
