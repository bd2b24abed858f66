//! The determiniser and its distances, without a vocabulary; patterns against a backtracking
//! matcher that follows ECMA-262's definition.

use std::sync::Arc;

use proptest::prelude::*;

use crate::regex::condition;
use crate::regex::dfa::Dfa;
use crate::regex::node::Node;
use crate::regex::parser::{self, Flags};
use crate::regex::product::{Formula, Product};
use crate::regex::program::Program;
use crate::regex::syntax::{self, Boolean, Whole};
use crate::regex::table::Table;
use crate::regex::words::{searched_words, words};
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

/// Where `node` can end if it begins at `at`, as ECMA-262 defines it but for the order.
fn ends(node: &Node, text: &[char], at: usize) -> Vec<usize> {
    let is_word = |at: usize| {
        text.get(at)
            .is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
    };
    let holds = |holds: bool| if holds { vec![at] } else { Vec::new() };
    let then = |ats: Vec<usize>, node: &Node| {
        let mut next: Vec<usize> = ats.iter().flat_map(|&at| ends(node, text, at)).collect();
        next.sort_unstable();
        next.dedup();
        next
    };
    match node {
        Node::Class(class) => {
            let contains = |c: char| {
                class
                    .iter()
                    .any(|range| (range.start()..=range.end()).contains(&c))
            };
            text.get(at)
                .filter(|&&c| contains(c))
                .map(|_| at + 1)
                .into_iter()
                .collect()
        }
        Node::Concat(parts) => parts.iter().fold(vec![at], then),
        Node::Alternation(options) => options
            .iter()
            .flat_map(|node| ends(node, text, at))
            .collect(),
        Node::Repeat { body, min, max } => {
            let mut now = vec![at];
            let mut all = Vec::new();
            for n in 0..=max.unwrap_or(u32::MAX).min(min + text.len() as u32 + 1) {
                if n >= *min {
                    all.extend(&now);
                }
                now = then(now, body);
            }
            all
        }
        Node::Start => holds(at == 0),
        Node::End => holds(at == text.len()),
        Node::Boundary { negated, .. } => {
            let before = at > 0 && is_word(at - 1);
            holds((before != is_word(at)) != *negated)
        }
        Node::Around(around) => {
            let found = match around.is_ahead {
                true => !ends(&around.body, text, at).is_empty(),
                false => (0..=at).any(|from| ends(&around.body, text, from).contains(&at)),
            };
            holds(found != around.negated)
        }
    }
}

fn accepts(table: &Table, text: &str) -> bool {
    let end = text
        .bytes()
        .try_fold(0, |state, byte| table.step(state, byte));
    !table.is_empty() && end.is_some_and(|state| table.distance(state) == 0)
}

/// Patterns with lookarounds in all the places that are supported, and others.
fn pattern() -> impl Strategy<Value = String> {
    let single = prop::sample::select(vec!["a", "b", "-", "[ab]", ".", r"\w", r"\W", "é", "[^a]"]);
    let plain = single
        .prop_map(String::from)
        .prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(?:{a}|{b})")),
                (
                    inner,
                    prop::sample::select(vec!["*", "+", "?", "{2}", "{1,3}"])
                )
                    .prop_map(|(a, repeat)| format!("(?:{a}){repeat}")),
            ]
        });
    let inside =
        (plain.clone(), prop::sample::select(vec!["", "", "$", "^"])).prop_map(|(a, anchor)| {
            match anchor {
                "^" => format!("^{a}"),
                anchor => format!("{a}{anchor}"),
            }
        });
    let around = (prop::sample::select(vec!["?=", "?!", "?<=", "?<!"]), inside)
        .prop_map(|(kind, inside)| format!("({kind}{inside})"));
    let edge = prop::sample::select(vec![r"\b", r"\B", r"\b^", r"$\b", r"(?:^a|b-)\b"])
        .prop_map(String::from);
    let part = prop_oneof![
        4 => plain.clone(),
        4 => around.clone(),
        1 => edge,
        1 => (around.clone(), plain.clone()).prop_map(|(a, b)| format!("(?:{a}{b})?")),
        1 => (around, plain).prop_map(|(a, b)| format!("(?:{a}|{b})")),
        1 => prop::sample::select(vec!["(?:(?!ab).)*", "(?:(?!a)(?!--)[ab-])+", r"(?:a(?!-)|[^a])*", r"(?:\b[ab]+\b|-)*", "(?:(?<!a)b|[a-])+"]).prop_map(String::from),
    ];
    let borders = prop::sample::select(vec![("", ""), ("^", ""), ("", "$"), ("^", "$")]);
    (prop::collection::vec(part, 1..4), borders)
        .prop_map(|(parts, (start, end))| format!("{start}{}{end}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn outlines_tell_what_is_read(pattern in "(\\(\\?[:!=]|[-^$.|?*+(){},\\[\\]a-c19]|\\\\[bBdskxup1{]|[\\\\<é]){0,9}") {
        let limits = Limits::default();
        let read = syntax::parse_boolean(&pattern, &limits);
        prop_assert_eq!(syntax::is_boolean(&pattern, &limits), read.is_ok(), "{} {:?}", pattern, read);
    }

    #[test]
    fn lookarounds_mean_what_they_say(
        pattern in pattern(),
        texts in prop::collection::vec("[ab\\-é]{0,5}", 30),
    ) {
        let limits = Limits::default();
        let node: Node = parser::parse(&pattern, Flags::default(), &limits).unwrap();
        let searched = syntax::parse_boolean(&pattern, &limits);
        let whole = syntax::parse_whole(&pattern, Flags::default(), &limits);
        prop_assume!(searched.is_ok() || whole.is_ok());
        let searched = searched.ok().map(|condition| condition::table(&condition, &limits).unwrap());
        let whole = match whole {
            Ok(Whole::Table(table)) => Some(table),
            _ => None,
        };
        for text in texts {
            let chars: Vec<char> = text.chars().collect();
            let found = (0..=chars.len()).any(|at| !ends(&node, &chars, at).is_empty());
            let matched = ends(&node, &chars, 0).contains(&chars.len());
            if let Some(table) = &searched {
                prop_assert_eq!(accepts(table, &text), found, "{} in {:?}", pattern, text);
            }
            if let Some(table) = &whole {
                prop_assert_eq!(accepts(table, &text), matched, "{} on {:?}", pattern, text);
            }
        }
    }
}

/// A searched pattern, and its automaton's state after each of some texts.
fn after<const N: usize>(pattern: &str, texts: [&str; N]) -> (Dfa, [u32; N]) {
    let limits = Limits::default();
    let Boolean::Hir(hir) = syntax::parse_boolean(pattern, &limits).unwrap() else {
        panic!("{pattern} has a lookaround");
    };
    let program = Program::ending_in_any_text(&syntax::searched(&hir), &limits).unwrap();
    let (mut dfa, start) = Dfa::of(Arc::new(program), &limits).unwrap();
    let mut follow = |text: &str| {
        let mut bytes = text.bytes();
        bytes.try_fold(start, |state, byte| dfa.step(state, byte).unwrap())
    };
    let states = texts.map(|text| follow(text).unwrap());
    (dfa, states)
}

#[test]
fn after_a_match_that_may_stand_anywhere_there_is_one_state() {
    let (dfa, states) = after("ab|ca?", ["ab", "xabca", "c", "cé", "abc", "x", "xa"]);
    let [total, ..] = states;
    assert!(states[..5].iter().all(|&state| state == total));
    assert!(dfa.is_total(total) && !dfa.is_total(states[5]) && !dfa.is_total(states[6]));
    let (dfa, [state]) = after("ab$", ["ab"]);
    assert!(!dfa.is_total(state));
}

#[test]
fn a_state_covers_those_that_lead_to_less() {
    let (dfa, [start, begun, matched]) = after("abc", ["", "ab", "abc"]);
    assert!(dfa.covers(begun, start) && !dfa.covers(start, begun));
    assert!(!dfa.covers(begun, matched));
}

#[test]
fn words_are_all_that_a_pattern_is_found_in() {
    let listed = |pattern: &str| {
        let hir = syntax::parse(pattern, &Limits::default()).unwrap();
        words(&hir).map(|mut list| {
            list.sort_unstable();
            list
        })
    };
    let some = |list: &[&str]| Some(list.iter().map(|word| word.to_string()).collect::<Vec<_>>());
    assert_eq!(listed("^abc$"), some(&["abc"]));
    assert_eq!(
        listed("^(?:a|b){1,2}$"),
        some(&["a", "aa", "ab", "b", "ba", "bb"])
    );
    assert_eq!(
        listed("^[x-z]!?$"),
        some(&["x", "x!", "y", "y!", "z", "z!"])
    );
    assert_eq!(listed("^$|^(?:^a$)$"), some(&["", "a"]));
    // Texts that would have to begin or end within themselves are none.
    assert_eq!(listed("^a^b$"), some(&[]));
    assert_eq!(listed("^a$b|^c$"), some(&["c"]));
    // Found in more than a few texts, or in one that can be written in several ways.
    for pattern in [
        "abc",
        "^abc",
        "abc$",
        "^a|b$",
        "^a*$",
        "^.$",
        "^é$",
        "^[a-z]{3}$",
        "(?:^a|b)$",
    ] {
        assert_eq!(listed(pattern), None, "{pattern}");
    }
}

/// Unless it asks for more, or they may be written in several ways.
#[test]
fn the_words_that_a_pattern_searches_for_are_known() {
    let searched = |pattern: &str| {
        let hir = syntax::parse(pattern, &Limits::default()).unwrap();
        let found = searched_words(&hir)?;
        Some(found.iter().map(|word| word.to_vec()).collect::<Vec<_>>())
    };
    let some = |list: &[&str]| Some(list.iter().map(|word| word.as_bytes().to_vec()).collect());
    assert_eq!(searched("customer"), some(&["customer"]));
    assert_eq!(searched("(?:x|aa)bcd"), some(&["xbcd", "aabcd"]));
    for pattern in [
        "^abc", "abc$", "ab", "abc|de", "abc+", "ab\"", "abé", "[a-z]{3}", "a\\\\b",
    ] {
        assert_eq!(searched(pattern), None, "{pattern}");
    }
}

#[test]
fn a_part_knows_a_byte_that_brings_it_nearer() {
    let (mut dfa, start) = build("(?:abc|é|[x-z]{2}w)d?e").unwrap();
    let mut state = start;
    while dfa.distance(state) > 0 {
        let byte = dfa.nearer_byte(state).unwrap();
        let next = dfa.step(state, byte).unwrap().unwrap();
        assert_eq!(dfa.distance(next) + 1, dfa.distance(state));
        state = next;
    }
    assert_eq!(dfa.nearer_byte(state), None);
}

#[test]
fn a_tuple_is_one_byte_further_than_its_nearest_successor() {
    let limits = Limits::default();
    let parts = [
        "[a-f]*ab[a-f]*",
        "[a-f]*bcd[a-f]*",
        "[a-f]*cdab?[a-f]*",
        "[a-f]*dd",
    ];
    let parts = parts
        .into_iter()
        .map(|pattern| build(pattern).unwrap())
        .collect();
    let [first, second, third, fourth] = [0, 1, 2, 3].map(Formula::Part);
    let accept = Formula::And(vec![
        Formula::Or(vec![first, fourth]),
        second,
        Formula::Not(Box::new(third)),
    ]);
    let (mut product, start) = Product::new(parts, accept, Vec::new(), &limits).unwrap();
    let mut open = vec![start.unwrap()];
    let mut seen = open.clone();
    while let Some(state) = open.pop() {
        let nexts = (b'a'..=b'f').filter_map(|byte| product.step(state, byte).unwrap());
        let nexts: Vec<_> = nexts.collect();
        let nearest = nexts.iter().map(|&next| product.distance(next) + 1).min();
        let expected = if product.is_accepting(state) {
            Some(0)
        } else {
            nearest
        };
        assert_eq!(Some(product.distance(state)), expected);
        for next in nexts {
            if !seen.contains(&next) {
                seen.push(next);
                open.push(next);
            }
        }
    }
    assert!(seen.len() > 20, "{} tuples", seen.len());
}
