use super::*;

fn clean(source: &str) -> File {
    let (file, found) = parse(source);
    assert_eq!(found, Vec::new(), "{source}");
    file
}

#[test]
fn example_programs_parse() {
    for entry in std::fs::read_dir("../examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lmp") {
            let file = clean(&std::fs::read_to_string(path).unwrap());
            assert!(!file.body.stmts.is_empty());
        }
    }
}
