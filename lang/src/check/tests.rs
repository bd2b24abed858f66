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
