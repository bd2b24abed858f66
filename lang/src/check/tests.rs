use super::*;

fn findings(source: &str) -> Vec<(&'static str, String)> {
    let checked = check("test.lmp", source, &NoHost);
    assert_eq!(
        checked.program.is_none(),
        checked.diagnostics.iter().any(Diagnostic::is_error)
    );
    checked
        .diagnostics
        .into_iter()
        .map(|found| (found.code, found.message))
        .collect()
}

#[test]
fn example_programs_are_clean() {
    for entry in std::fs::read_dir("../examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lmp") {
            let found = findings(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(found, Vec::new(), "{}", path.display());
        }
    }
}

#[test]
fn zz_tour() {
    for s in [
        include_str!("../syntax/tour/hello.lmp"),
        include_str!("../syntax/tour/extract.lmp"),
        include_str!("../syntax/tour/review.lmp"),
        include_str!("../syntax/tour/agent.lmp"),
        include_str!("../syntax/tour/retry.lmp"),
    ] {
        println!("-----");
        for f in check("t.lmp", s, &NoHost).diagnostics {
            println!(
                "{} {:?} {} | {:?}",
                f.code,
                &s[f.span.start..f.span.end.min(f.span.start + 40)],
                f.message,
                f.help
            );
        }
    }
}
