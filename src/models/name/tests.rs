//! What names mean.

use super::*;

fn hub(given: &str) -> Option<(String, Option<String>)> {
    match Name::parse(given) {
        Ok(Name::Hub(reference)) => Some((reference.repo, reference.quant)),
        _ => None,
    }
}

#[test]
fn a_known_name_is_known() {
    let Ok(Name::Known(known)) = Name::parse("smollm2") else {
        panic!("smollm2 is known")
    };
    assert_eq!(known.size, 98_362_432);
}

#[test]
fn hub_references_have_a_repository_and_perhaps_a_quantisation() {
    assert_eq!(
        hub("hf:org/repo-1.5_x"),
        Some(("org/repo-1.5_x".into(), None))
    );
    assert_eq!(
        hub("hf:org/repo:Q4_K_M"),
        Some(("org/repo".into(), Some("Q4_K_M".into())))
    );
    assert_eq!(
        hub("hf:o/r:sub/m.gguf"),
        Some(("o/r".into(), Some("sub/m.gguf".into())))
    );
}

#[test]
fn what_could_leave_the_cache_folder_is_refused() {
    for given in [
        "hf:",
        "hf:repo",
        "hf:a/b/c",
        "hf:../x",
        "hf:a/..",
        "hf:a/b:../c",
        "hf:a/b:",
    ] {
        let error = Name::parse(given).expect_err(given);
        assert!(
            matches!(error, ModelsError::Reference { .. }),
            "{given}: {error}"
        );
    }
}

#[test]
fn a_path_that_does_not_exist_and_a_name_nobody_knows_are_told_apart() {
    assert!(matches!(
        Name::parse("./no/such.gguf"),
        Err(ModelsError::Missing(_))
    ));
    assert!(matches!(
        Name::parse("gpt-17"),
        Err(ModelsError::Unknown { .. })
    ));
}
