//! The determiniser and its distances, without a vocabulary.

use crate::regex::dfa::Dfa;
use crate::regex::syntax;
use crate::{GrammarError, Limits};

fn build(pattern: &str) -> Result<(Dfa, u32), GrammarError> {
    let limits = Limits::default();
    Dfa::new(&syntax::parse(pattern, &limits)?, &limits)
}

/// The distance after each prefix of `text`; `None` from where it is dead.
fn distances(pattern: &str, text: &str) -> Vec<Option<usize>> {
    let (mut dfa, start) = build(pattern).unwrap();
    let mut state = Some(start);
    let mut distances = vec![Some(dfa.distance(start))];
    for &byte in text.as_bytes() {
        state = state.and_then(|state| dfa.step(state, byte).unwrap());
        distances.push(state.map(|state| dfa.distance(state)));
    }
    distances
}

#[test]
fn distances_count_the_bytes_of_a_shortest_match() {
    assert_eq!(distances("abc|abcdef", "abcd"), [3, 2, 1, 0, 2].map(Some));
    assert_eq!(distances("(ab){3}", "ab"), [6, 5, 4].map(Some));
    assert_eq!(distances("é|日本", "日"), [2, 5, 4, 3].map(Some));
    assert_eq!(distances("a*", "aa"), [0, 0, 0].map(Some));
}

#[test]
fn dead_states_are_seen_before_they_are_entered() {
    // After `a` only the branch that ends could go on, and it cannot.
    assert_eq!(distances("a$b|ac", "ab"), [Some(2), Some(1), None]);
    assert_eq!(distances("(^a|b)^c|bd", "bc"), [Some(2), Some(1), None]);
    assert_eq!(distances("ab[]|ac", "ab"), [Some(2), Some(1), None]);
}

#[test]
fn anchors_hold_at_the_ends_alone() {
    let accepts = |pattern: &str, text: &str| distances(pattern, text).pop().flatten() == Some(0);
    assert!(accepts("^$", ""));
    assert!(accepts("(^|a)b($|c)", "b"));
    assert!(accepts("(^|a)b($|c)", "abc"));
    assert!(!accepts("(^|a)b($|c)", "ab$"));
    assert!(accepts("(a|^)*b", "aab"));
}

#[test]
fn states_are_limited() {
    let limits = Limits {
        dfa_states: 10,
        ..Limits::default()
    };
    let hir = syntax::parse("(a|b)*a(a|b){10}", &limits).unwrap();
    let (mut dfa, mut state) = Dfa::new(&hir, &limits).unwrap();
    let outcome = b"abbabaababbbabaaab".iter().try_for_each(|&byte| {
        state = dfa.step(state, byte)?.unwrap();
        Ok(())
    });
    let limit = GrammarError::Limit {
        what: "the regex's automaton".into(),
        limit: "dfa_states",
        allowed: 10,
    };
    assert_eq!(outcome, Err(limit));
}
