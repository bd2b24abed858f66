//! Walks end in members.

use std::sync::Arc;

use lmrun_grammar::{Constraint, Limits};

use super::*;

/// A token for each byte, and an end token.
fn bytes() -> Arc<Vocabulary> {
    let tokens = (0..=u8::MAX).map(|byte| Some([byte].into())).chain([None]);
    Arc::new(Vocabulary::new(tokens.collect(), vec![256]))
}

fn walks(pattern: &str, n_free: usize, max_tokens: Option<usize>) -> Vec<String> {
    let constraint = Constraint::regex(pattern, &Limits::default()).expect(pattern);
    let vocabulary = bytes();
    let mut random = Random::new(1);
    (0..50)
        .map(|_| {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary))
                .expect("a matcher of bytes");
            let walked = walk(&mut matcher, &vocabulary, n_free, max_tokens, &mut random);
            String::from_utf8(walked.expect("it ends")).expect("UTF-8")
        })
        .collect()
}

#[test]
fn every_walk_is_a_member() {
    let pattern = regex::Regex::new("^(?:(?:[a-c]+|[0-9]{3}),){2,}end$").expect("a regex");
    for walked in walks("(([a-c]+|[0-9]{3}),){2,}end", FREE_TOKENS, None) {
        assert!(pattern.is_match(&walked), "{walked}");
    }
}

#[test]
fn a_walk_without_free_tokens_is_shortest() {
    for walked in walks("(ab){2,}c?", 0, None) {
        assert_eq!(walked, "abab");
    }
}

#[test]
fn a_walk_stays_within_its_tokens() {
    let walked = walks("x[0-9]+y", FREE_TOKENS, Some(5));
    assert!(
        walked
            .iter()
            .all(|walked| walked.len() <= 5 && walked.ends_with('y')),
        "{walked:?}"
    );
    assert!(walked.iter().any(|walked| walked.len() == 5), "{walked:?}");
}

#[test]
fn too_few_tokens_are_an_error() {
    let constraint = Constraint::regex("abc", &Limits::default()).expect("a regex");
    let vocabulary = bytes();
    let mut matcher = Matcher::new(constraint, Arc::clone(&vocabulary)).expect("a matcher");
    let walked = walk(&mut matcher, &vocabulary, 60, Some(2), &mut Random::new(1));
    assert_eq!(
        walked,
        Err(GrammarError::Budget {
            needed: 3,
            budget: 2
        })
    );
}
