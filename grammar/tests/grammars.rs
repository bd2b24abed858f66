//! The grammars of `data/grammars.txt`: texts they derive and texts they do not, masks against
//! brute force, steering; then what is refused, and inputs made to hurt.
//!
//! In that file `== dialect name` begins a grammar; `++` and `--` lines, JSON strings, are in its
//! language and outside of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Random, accepts, assert_masks_equal_brute_force, random_output, vocabulary};
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, TokenMask, Vocabulary};

struct Case {
    name: &'static str,
    source: String,
    members: Vec<String>,
    others: Vec<String>,
}

impl Case {
    fn constraint(&self) -> Constraint {
        let limits = Limits::default();
        let outcome = match self.name.split_once(' ').unwrap().0 {
            "lark" => Constraint::lark(&self.source, &limits),
            _ => Constraint::gbnf(&self.source, &limits),
        };
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("data/grammars.txt").lines() {
        let text = |json: &str| serde_json::from_str(json).unwrap();
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name,
                source: String::new(),
                members: Vec::new(),
                others: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().unwrap();
        if let Some(member) = line.strip_prefix("++ ") {
            case.members.push(text(member));
        } else if let Some(other) = line.strip_prefix("-- ") {
            case.others.push(text(other));
        } else {
            case.source += line;
            case.source.push('\n');
        }
    }
    cases
}

#[test]
fn grammars_derive_what_they_should() {
    let vocabulary = vocabulary();
    let cases = cases();
    assert!(cases.len() >= 50, "{}", cases.len());
    for case in cases {
        let constraint = case.constraint();
        for member in &case.members {
            let holds = accepts(&constraint, &vocabulary, member.as_bytes());
            assert!(holds, "{}: {member:?}", case.name);
        }
        for other in &case.others {
            let holds = accepts(&constraint, &vocabulary, other.as_bytes());
            assert!(!holds, "{}: {other:?}", case.name);
        }
    }
}

#[test]
fn masks_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random(5);
    for case in cases() {
        let constraint = case.constraint();
        for _ in 0..3 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            assert_masks_equal_brute_force(&mut matcher, &vocabulary, &mut random, 6, case.name);
        }
    }
}

#[test]
fn steered_outputs_are_whole() {
    let vocabulary = vocabulary();
    let mut random = Random(3);
    for case in cases() {
        let constraint = case.constraint();
        for n_free in 0..10 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            random_output(&mut matcher, &vocabulary, &mut random, n_free);
            assert!(matcher.is_complete(), "{}", case.name);
        }
    }
}

#[test]
fn equal_places_share_a_mask() {
    // Each item of a list, however far in, finds the masks of the one before: much faster than
    // walking a vocabulary of a hundred thousand tokens each time.
    let tokens = (0..100_000_u32).map(|n| Some(format!("{n:x}").into_bytes().into_boxed_slice()));
    let bytes = (0..=u8::MAX).map(|byte| Some(vec![byte].into_boxed_slice()));
    let vocabulary = Arc::new(Vocabulary::new(bytes.chain(tokens).collect(), Vec::new()));
    for source in [
        "start: item (\",\" item)*\nitem: /[0-9a-f]+/ | \"(\" start \")\"",
        "start: item | start \",\" item\nitem: /[0-9a-f]+/ | \"(\" start \")\"",
        "start: item | item \",\" start\nitem: /[0-9a-f]+/ | \"(\" start \")\"",
    ] {
        let constraint = Constraint::lark(source, &Limits::default()).unwrap();
        let mut matcher = Matcher::new(constraint, Arc::clone(&vocabulary)).unwrap();
        let mut mask = TokenMask::new(vocabulary.n_tokens());
        let mut elapsed = Duration::ZERO;
        for n in 0..2_000 {
            let start = Instant::now();
            matcher.mask(&mut mask).unwrap();
            if n > 10 {
                elapsed += start.elapsed();
            }
            matcher
                .accept(u32::from(if n % 2 == 0 { b'7' } else { b',' }))
                .unwrap();
        }
        assert!(elapsed < Duration::from_secs(2), "{source}: {elapsed:?}");
    }
}

fn place(outcome: Result<Constraint, GrammarError>) -> (usize, usize) {
    match outcome {
        Err(GrammarError::Grammar { line, column, .. }) => (line, column),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_name_the_place() {
    let lark = |source: &str| place(Constraint::lark(source, &Limits::default()));
    assert_eq!(lark("start: a"), (1, 8));
    assert_eq!(lark("begin: \"a\""), (1, 1));
    assert_eq!(lark("start: \"a\"\nstart: \"b\""), (2, 1));
    assert_eq!(lark("start: A\nA: \"a\" A | \"b\""), (1, 8));
    assert_eq!(lark("start: \"a"), (1, 8));
    assert_eq!(lark("start: /a"), (1, 8));
    assert_eq!(lark("start: /a(/"), (1, 10));
    assert_eq!(lark("start: /(/i"), (1, 9));
    assert_eq!(lark("start: (\"a\""), (1, 12));
    assert_eq!(lark("start: \"é\" *?)"), (1, 14));
    assert_eq!(lark("start: \"b\"..\"a\""), (1, 8));
    assert_eq!(lark("start: \"a\"~3..2"), (1, 12));
    assert_eq!(lark("start: /^a/"), (1, 8));
    assert_eq!(lark("_pair{a, b}: a b\nstart: \"x\""), (1, 6));
    assert_eq!(lark("start: list{\"x\"}"), (1, 12));
    assert_eq!(lark("%import python.NAME\nstart: NAME"), (1, 9));
    assert_eq!(lark("%import common.NOPE\nstart: NOPE"), (1, 16));
    assert_eq!(lark("%declare A\nstart: A"), (1, 1));
    assert_eq!(lark("start: %json {\"type\": \"stsring\"}"), (1, 14));
    assert_eq!(lark("start: %json {\"type\""), (1, 14));
    let gbnf = |source: &str| place(Constraint::gbnf(source, &Limits::default()));
    assert_eq!(gbnf("root ::= a"), (1, 10));
    assert_eq!(gbnf("a ::= \"x\""), (1, 1));
    assert_eq!(gbnf("root = \"x\""), (1, 6));
    assert_eq!(gbnf("root ::= \"x"), (1, 10));
    assert_eq!(gbnf("root ::= [a"), (1, 10));
    assert_eq!(gbnf("root ::= [z-a]"), (1, 11));
    assert_eq!(gbnf("root ::= \"\\q\""), (1, 11));
    assert_eq!(gbnf("root ::= \"x\"{3,2}"), (1, 14));
    assert_eq!(gbnf("root ::= <think>"), (1, 10));
}

#[test]
fn what_derives_nothing_is_refused() {
    for source in [
        "start: \"a\" start",
        "start: start",
        "start: a\na: start | a \"x\"",
        "start: /[]/",
    ] {
        let error = Constraint::lark(source, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, GrammarError::Empty { .. }),
            "{source}: {error}"
        );
    }
}

/// Compiles, makes a few masks, and says whether that went well, each answer in time.
fn try_out(source: &str) -> Option<GrammarError> {
    let what: String = source.chars().take(60).collect();
    let mut start = Instant::now();
    let mut in_time = || {
        let elapsed = start.elapsed();
        // Ten times what an idle machine needs at most: only what hangs is to fail here.
        assert!(elapsed < Duration::from_secs(3), "{what}: {elapsed:?}");
        start = Instant::now();
    };
    let vocabulary = vocabulary();
    let constraint = Constraint::lark(source, &Limits::default());
    in_time();
    let matcher = constraint.and_then(|it| Matcher::new(it, Arc::clone(&vocabulary)));
    in_time();
    let mut matcher = match matcher {
        Ok(matcher) => matcher,
        Err(error) => return Some(error),
    };
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    for _ in 0..20 {
        let outcome = matcher.mask(&mut mask);
        in_time();
        if let Err(error) = outcome {
            return Some(error);
        }
        let outcome = matcher.accept(mask.iter().last().unwrap());
        in_time();
        if let Err(error) = outcome {
            return Some(error);
        }
    }
    None
}

fn is_limit(error: Option<&GrammarError>, expected: &str) -> bool {
    matches!(error, Some(GrammarError::Limit { limit, .. }) if *limit == expected)
}

fn chain(n: usize, link: impl Fn(usize) -> String, last: &str) -> String {
    let links: String = (0..n)
        .map(|idx| format!("r{idx}: {}\n", link(idx + 1)))
        .collect();
    format!("start: r0\n{links}r{n}: {last}\n")
}

#[test]
fn long_chains_of_rules() {
    let forever = |body: &str| try_out(&chain(5_000, |next| format!("r{next}"), body));
    assert_eq!(forever("/[a-z]+/ \".\"*"), None);
    assert_eq!(forever("\"(\" start \")\" | /[a-z]*/"), None);
    assert_eq!(
        try_out(&chain(5_000, |next| format!("r{next} \"a\""), "/x*/")),
        None
    );
    assert_eq!(
        try_out(&chain(
            5_000,
            |next| format!("\"a\" r{next} | \"(\" start \")\""),
            "\"x\""
        )),
        None
    );
}

#[test]
fn many_long_beginnings() {
    // Each of the rules after `x` begins with all those after it.
    let rules: String = (0..4_000)
        .map(|n| format!("r{n}: r{} \"a\" start | \"b\"\n", n + 1))
        .collect();
    let options: Vec<String> = (0..4_000).map(|n| format!("\"x\" r{n} \"y\"")).collect();
    let source = format!("start: {}\n{rules}r4000: \"c\"\n", options.join(" | "));
    assert!(matches!(try_out(&source), Some(GrammarError::Limit { .. })));
}

#[test]
fn rules_that_double() {
    let doubling = chain(60, |next| format!("r{next} r{next}"), "\"x\"");
    let error = try_out(&doubling).unwrap();
    assert!(matches!(error, GrammarError::Empty { .. }), "{error}");
    let error = try_out(&chain(60, |next| format!("r{next} r{next}"), "\"x\"?"));
    let is_answer = matches!(error, None | Some(GrammarError::Limit { .. }));
    assert!(is_answer, "{error:?}");
    assert_eq!(
        try_out(&chain(60, |next| format!("r{next} | r{next}"), "\"x\"*")),
        None
    );
}

#[test]
fn hostile_nesting() {
    for n in [1_000, 100_000] {
        let groups = format!("start: {}\"a\"{}", "(".repeat(n), ")".repeat(n));
        assert!(is_limit(try_out(&groups).as_ref(), "depth"));
        assert!(is_limit(
            try_out(&format!("start: \"a\"{}", "*".repeat(n))).as_ref(),
            "depth"
        ));
        assert!(try_out(&format!("start: {}", "[".repeat(n))).is_some());
    }
    assert!(is_limit(
        try_out("start: ((((a~100)~100)~100)~100)\na: \"x\" a | \"y\"").as_ref(),
        "grammar_positions"
    ));
    assert!(is_limit(
        try_out(&" ".repeat(2 << 20)).as_ref(),
        "source_bytes"
    ));
}

#[test]
fn large_grammars() {
    let words: Vec<String> = (0..20_000).map(|n| format!("\"word{n}\"")).collect();
    assert_eq!(try_out(&format!("start: ({})*", words.join(" | "))), None);
    let rules: String = (0..2_000)
        .map(|n| format!("r{n}: \"k{n}\" (start | /[a-z]+{n}/)\n"))
        .collect();
    let names: Vec<String> = (0..2_000).map(|n| format!("r{n}")).collect();
    try_out(&format!("{rules}start: {}\n", names.join(" | ")));
    let shared = format!("BIG: /{}/\n", "[ab]c".repeat(1_000));
    let users: String = (0..5_000).map(|n| format!("r{n}: BIG \"{n}\"\n")).collect();
    let names: Vec<String> = (0..5_000).map(|n| format!("r{n}")).collect();
    try_out(&format!("{shared}{users}start: {}\n", names.join(" | ")));
}

#[test]
fn ambiguity_stays_polynomial() {
    let vocabulary = vocabulary();
    for source in [
        "start: start start | \"a\"",
        "start: \"a\" start \"b\" | \"a\" start \"c\" | \"a\" start | \"a\"",
        "start: start start start | start start | \"a\" |",
    ] {
        let constraint = Constraint::lark(source, &Limits::default()).unwrap();
        let start = Instant::now();
        assert!(accepts(&constraint, &vocabulary, &[b'a'; 200]), "{source}");
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{source}: {:?}",
            start.elapsed()
        );
    }
}
