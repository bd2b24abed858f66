//! The language reference says what the code says: its programs are right, its tables complete.

use lmrun_lang::{LIBRARY, NoHost, Place, check, explain, options_of, parse};

const REFERENCE: &str = include_str!("../../docs/language.md");

fn programs() -> Vec<&'static str> {
    let blocks = REFERENCE.split("```lmp\n").skip(1);
    blocks
        .map(|block| {
            block
                .split("```")
                .next()
                .expect("a split has a first piece")
        })
        .collect()
}

#[test]
fn its_programs_parse_and_its_tour_checks() {
    let programs = programs();
    assert!(programs.len() >= 5);
    for program in &programs {
        assert_eq!(parse(program).1, Vec::new(), "{program}");
    }
    let (tour, _) = REFERENCE.split_once("## Files and words").unwrap();
    for program in programs.iter().filter(|program| tour.contains(*program)) {
        let found = check("tour.lmp", program, &NoHost).diagnostics;
        let worse: Vec<_> = found
            .iter()
            .filter(|found| !found.code.starts_with('L'))
            .collect();
        assert!(worse.iter().all(|found| !found.is_error()), "{worse:#?}");
    }
}

#[test]
fn its_tables_have_every_function_option_and_code() {
    for signature in LIBRARY {
        let params: Vec<String> = signature
            .params
            .iter()
            .map(|(name, ty)| format!("{name}: {ty}"))
            .collect();
        let row = format!(
            "| `{}({})` | `{}` | {} |",
            signature.name,
            params.join(", "),
            signature.result,
            signature.doc
        );
        let row = row
            .replace(" | list | map)", " \\| list \\| map)")
            .replace(" | number", " \\| number")
            .replace(" | bool)", " \\| bool)");
        assert!(REFERENCE.contains(&row), "{row}");
    }
    for place in [
        Place::Gen,
        Place::Select,
        Place::Fork,
        Place::Model,
        Place::Budget,
    ] {
        for option in options_of(place) {
            assert!(
                REFERENCE.contains(&format!("| `{}` |", option.name)),
                "{}",
                option.name
            );
            assert!(REFERENCE.contains(option.doc), "{}", option.name);
        }
    }
    let rows = REFERENCE.lines().filter_map(|line| {
        let (code, text) = line.strip_prefix("| ")?.split_once(" | ")?;
        let text = text.strip_suffix(" |")?.replace("\\|", "|");
        (code.len() == 4 && code[1..].bytes().all(|b| b.is_ascii_digit())).then_some((code, text))
    });
    let mut n_codes = 0;
    for (code, text) in rows {
        assert_eq!(explain(code), Some(text.as_str()), "{code}");
        n_codes += 1;
    }
    let n_explained = (0..1000).flat_map(|n| ["E", "W", "L"].map(|kind| format!("{kind}{n:03}")));
    assert_eq!(
        n_codes,
        n_explained.filter(|code| explain(code).is_some()).count()
    );
}
