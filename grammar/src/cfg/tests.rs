//! The recogniser against languages enumerated from the definition: the strings of up to a few
//! bytes that random grammars derive, found as a fixpoint of sets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::language::State;
use crate::{Constraint, GrammarError, Limits};

/// Longest strings enumerated.
const MAX_LEN: usize = 6;
const N_RULES: usize = 3;

/// An expression in both dialects' common part.
#[derive(Clone, Debug)]
enum Tree {
    Text(&'static str),
    Rule(usize),
    Sequence(Vec<Tree>),
    Choice(Vec<Tree>),
    Repeat(Box<Tree>, u32, Option<u32>),
}

type Strings = BTreeSet<String>;

fn joined(left: &Strings, right: &Strings) -> Strings {
    let pairs = left
        .iter()
        .flat_map(|a| right.iter().map(move |b| (a, b)))
        .filter(|(a, b)| a.len() + b.len() <= MAX_LEN);
    pairs.map(|(a, b)| format!("{a}{b}")).collect()
}

/// What `tree` derives where each rule derives `rules`. `spaces` may follow each text.
fn strings(tree: &Tree, rules: &[Strings], spaces: &Strings) -> Strings {
    let of = |tree: &Tree| strings(tree, rules, spaces);
    let empty = || Strings::from([String::new()]);
    match tree {
        Tree::Text("") => empty(),
        Tree::Text(text) => joined(&Strings::from([text.to_string()]), spaces),
        Tree::Rule(rule) => rules[*rule].clone(),
        Tree::Sequence(parts) => parts
            .iter()
            .fold(empty(), |done, part| joined(&done, &of(part))),
        Tree::Choice(parts) => parts.iter().flat_map(of).collect(),
        Tree::Repeat(body, min, max) => {
            let body = of(body);
            let mut power = (0..*min).fold(empty(), |done, _| joined(&done, &body));
            let mut all = power.clone();
            for _ in *min..max.unwrap_or(min + MAX_LEN as u32 + 1) {
                power = joined(&power, &body);
                all.extend(power.iter().cloned());
            }
            all
        }
    }
}

/// What the first of `rules` derives.
fn language(rules: &[Tree], spaces: &Strings) -> Strings {
    let mut derived = vec![Strings::new(); rules.len()];
    loop {
        let next: Vec<Strings> = rules
            .iter()
            .map(|rule| strings(rule, &derived, spaces))
            .collect();
        if next == derived {
            return joined(spaces, &derived[0]);
        }
        derived = next;
    }
}

fn spelled(tree: &Tree, repeat: fn(u32, Option<u32>) -> String) -> String {
    let of = |tree: &Tree| spelled(tree, repeat);
    match tree {
        Tree::Text(text) => format!("\"{text}\""),
        Tree::Rule(0) => "start".into(),
        Tree::Rule(rule) => format!("r{rule}"),
        Tree::Sequence(parts) => parts.iter().map(of).collect::<Vec<_>>().join(" "),
        Tree::Choice(parts) => {
            format!("({})", parts.iter().map(of).collect::<Vec<_>>().join(" | "))
        }
        Tree::Repeat(body, min, max) => format!("({}){}", of(body), repeat(*min, *max)),
    }
}

fn lark_repeat(min: u32, max: Option<u32>) -> String {
    match (min, max) {
        (0, None) => "*".into(),
        (1, None) => "+".into(),
        (0, Some(1)) => "?".into(),
        (min, max) => format!("~{min}..{}", max.unwrap_or(MAX_LEN as u32 + 1)),
    }
}

fn gbnf_repeat(min: u32, max: Option<u32>) -> String {
    let max = max.map_or(String::new(), |max| max.to_string());
    format!("{{{min},{max}}}")
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "ab", "ba", ""]).prop_map(Tree::Text),
        4 => (0..N_RULES).prop_map(Tree::Rule),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::Sequence),
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::Choice),
            1 => (inner, 0..3_u32, prop::option::of(0..3_u32)).prop_map(|(body, min, more)| {
                Tree::Repeat(Box::new(body), min, more.map(|more| min + more))
            }),
        ]
    })
}

/// Two options a rule, so that few languages are empty.
fn rules() -> impl Strategy<Value = Vec<Tree>> {
    let rule = (tree(), tree()).prop_map(|(a, b)| Tree::Choice(vec![a, b]));
    prop::collection::vec(rule, N_RULES)
}

/// The state after each prefix of every string over `a`, `b` and a space, checked: live exactly
/// where some string goes on so, and as far from completion as the nearest of them.
fn check(constraint: &Constraint, expected: &Strings, alphabet: &[u8]) {
    let mut language = constraint.language(&[]);
    let mut stack: Vec<(String, State)> = vec![(String::new(), language.start())];
    while let Some((prefix, state)) = stack.pop() {
        language.begin(&[]);
        let nearest = expected
            .range(prefix.clone()..)
            .take_while(|string| string.starts_with(&prefix))
            .map(|string| string.len() - prefix.len())
            .min();
        let distance = language.distance(&state);
        if prefix.len() + distance <= MAX_LEN {
            assert_eq!(nearest, Some(distance), "after {prefix:?}");
        } else {
            assert_eq!(nearest, None, "after {prefix:?}");
        }
        assert_eq!(
            language.is_complete(&state),
            expected.contains(&prefix),
            "{prefix:?}"
        );
        if prefix.len() == MAX_LEN {
            continue;
        }
        for &byte in alphabet {
            let longer = format!("{prefix}{}", byte as char);
            match language.step(&state, byte).unwrap() {
                Some(next) => stack.push((longer, next)),
                None => assert!(
                    !expected.iter().any(|string| string.starts_with(&longer)),
                    "dead after {longer:?}"
                ),
            }
        }
    }
}

fn is_empty_error(outcome: &Result<Constraint, GrammarError>) -> bool {
    matches!(outcome, Err(GrammarError::Empty { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn gbnf_derives_its_language(rules in rules()) {
        let mut source = String::from("root ::= start\n");
        for (idx, rule) in rules.iter().enumerate() {
            let name = if idx == 0 { "start".into() } else { format!("r{idx}") };
            source += &format!("{name} ::= {}\n", spelled(rule, gbnf_repeat));
        }
        let expected = language(&rules, &Strings::from([String::new()]));
        let outcome = Constraint::gbnf(&source, &Limits::default());
        if is_empty_error(&outcome) {
            prop_assert!(expected.is_empty(), "{source}");
        } else {
            check(&outcome.unwrap(), &expected, b"ab");
        }
    }

    #[test]
    fn lark_derives_its_language(rules in rules(), ignores: bool) {
        let mut source = String::new();
        for (idx, rule) in rules.iter().enumerate() {
            let name = if idx == 0 { "start".into() } else { format!("r{idx}") };
            source += &format!("{name}: {}\n", spelled(rule, lark_repeat));
        }
        let mut spaces = Strings::from([String::new()]);
        if ignores {
            source += "%ignore \" \"\n";
            spaces.extend((1..=MAX_LEN).map(|n| " ".repeat(n)));
        }
        let expected = language(&rules, &spaces);
        let outcome = Constraint::lark(&source, &Limits::default());
        if is_empty_error(&outcome) {
            prop_assert!(expected.is_empty(), "{source}");
        } else {
            check(&outcome.unwrap(), &expected, b"ab ");
        }
    }
}
