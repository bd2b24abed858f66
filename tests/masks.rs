//! Masks on the real vocabulary: equal to brute force, every token tried by itself from a copy of the same state.
//!
//! The regexes and schemas are the data files of the grammar crate, whose own tests do the same on a small vocabulary
//! with every token tried byte by byte. Here each is walked a few steps with real tokens; at every step the mask must
//! agree with what `accept` says of each of the 49,152 tokens.

use std::sync::Arc;

use lmrun_grammar::{Constraint, Limits, Matcher, TokenMask, Vocabulary};

use crate::support::{engine::open, random::Random};

/// Tokens accepted from the start of each constraint.
const N_STEPS: usize = 3;

fn vocabulary() -> Arc<Vocabulary> {
    let engine = open(&lmrun_engine::EngineOptions::default());
    Arc::clone(engine.handle().vocabulary())
}

/// The next mask, checked against `accept` token by token.
fn checked_mask(matcher: &mut Matcher, n_tokens: usize, name: &str) -> TokenMask {
    let mut mask = TokenMask::new(n_tokens);
    matcher.mask(&mut mask).expect("within the limits");
    for token in 0..u32::try_from(n_tokens).expect("ids are u32") {
        let accepted = matcher.accept(token).is_ok();
        assert_eq!(mask.is_allowed(token), accepted, "{name}: token {token}");
        if accepted {
            matcher.rollback(1);
        }
    }
    mask
}

fn walk(constraint: Constraint, name: &str, vocabulary: &Arc<Vocabulary>, random: &mut Random) {
    let mut matcher = Matcher::new(constraint, Arc::clone(vocabulary)).expect("a matcher");
    for _ in 0..N_STEPS {
        let mask = checked_mask(&mut matcher, vocabulary.n_tokens(), name);
        let legal: Vec<u32> = mask.iter().collect();
        assert!(!legal.is_empty(), "{name}: a live state allows something");
        let token = legal[random.below(legal.len())];
        if vocabulary.end_tokens().contains(&token) {
            return;
        }
        matcher.accept(token).expect("the mask allowed it");
    }
}

#[test]
fn masks_of_a_hundred_regexes_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random::new(1);
    let regexes: Vec<&str> = include_str!("../grammar/tests/data/regexes.txt")
        .lines()
        .filter(|l| !l.is_empty())
        .collect();
    assert!(regexes.len() >= 100, "{} regexes", regexes.len());
    for regex in regexes {
        let constraint = Constraint::regex(regex, &Limits::default()).expect(regex);
        walk(constraint, regex, &vocabulary, &mut random);
    }
}

#[test]
fn masks_of_fifty_schemas_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random::new(2);
    let schemas: Vec<&str> = include_str!("../grammar/tests/data/schemas.jsonl")
        .lines()
        .filter(|l| !l.is_empty())
        .collect();
    assert!(schemas.len() >= 50, "{} schemas", schemas.len());
    for schema in schemas {
        let case: serde_json::Value = serde_json::from_str(schema).expect(schema);
        let constraint =
            Constraint::json_schema(&case["schema"], &Limits::default()).expect(schema);
        walk(constraint, schema, &vocabulary, &mut random);
    }
}
