//! The hundred regexes of `data/regexes.txt`: masks against brute force, outputs against another
//! engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{
    Random, accepts, assert_masks_equal_brute_force, brute_force_mask, random_output, vocabulary,
};
use lmrun_grammar::{Constraint, GrammarError, Limits, Matcher, RegexSyntax, TokenMask};

fn regexes() -> Vec<&'static str> {
    include_str!("data/regexes.txt").lines().collect()
}

#[test]
fn masks_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random(7);
    for regex in regexes() {
        let constraint = Constraint::regex(regex, &Limits::default()).unwrap();
        for _ in 0..4 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            assert_masks_equal_brute_force(&mut matcher, &vocabulary, &mut random, 6, regex);
        }
    }
}

#[test]
fn outputs_match_as_another_engine_has_it() {
    let vocabulary = vocabulary();
    let mut random = Random(11);
    for regex in regexes()
        .into_iter()
        .filter(|regex| is_common_syntax(regex))
    {
        let oracle = regex::Regex::new(&format!("^(?:{})$", ascii_classes(regex))).unwrap();
        let constraint = Constraint::regex(regex, &Limits::default()).unwrap();
        for n_free in 0..12 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            let output = random_output(&mut matcher, &vocabulary, &mut random, n_free);
            let text = String::from_utf8(output).unwrap();
            assert!(oracle.is_match(&text), "{regex} made {text:?}");
            // Neighbours of an output are near the boundary of the language, on either side of it.
            for _ in 0..20 {
                let mutated = mutate(&text, &mut random);
                let expected = oracle.is_match(&mutated);
                let given = accepts(&constraint, &vocabulary, mutated.as_bytes());
                assert_eq!(given, expected, "{regex} on {mutated:?}");
            }
        }
    }
}

/// Whether Rust's syntax reads the pattern as ECMA-262 does.
fn is_common_syntax(regex: &str) -> bool {
    !["[]|", "[^]", "[&&]", "[\\[\\]]"]
        .iter()
        .any(|special| regex.contains(special))
}

/// ECMA-262's classes in Rust's syntax.
fn ascii_classes(regex: &str) -> String {
    let spelled = regex.replace(r"\d", "[0-9]").replace(r"\D", "[^0-9]");
    let spelled = spelled
        .replace(r"\w", "[0-9A-Za-z_]")
        .replace(r"\W", "[^0-9A-Za-z_]");
    let spelled = spelled
        .replace(r"\s", r"[\s\u{FEFF}--\u{85}]")
        .replace(r"\S", r"[^[\s\u{FEFF}--\u{85}]]");
    let mut dots = String::new();
    let mut escaped = false;
    let mut in_class = false;
    for c in spelled.chars() {
        match c {
            '.' if !escaped && !in_class => dots.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            _ => dots.push(c),
        }
        in_class = if escaped {
            in_class
        } else {
            (in_class || c == '[') && c != ']'
        };
        escaped = c == '\\' && !escaped;
    }
    dots
}

fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let pool: Vec<char> = "ab0-\"{}.: é日\n\\xA1".chars().collect();
    let place = random.below(chars.len() + 1);
    match random.below(3) {
        0 => chars.insert(place, pool[random.below(pool.len())]),
        1 if place < chars.len() => {
            chars.remove(place);
        }
        _ if place < chars.len() => chars[place] = pool[random.below(pool.len())],
        _ => {}
    }
    chars.into_iter().collect()
}

#[test]
fn refusals_name_the_place() {
    let offset = |pattern: &str| match Constraint::regex(pattern, &Limits::default()) {
        Err(GrammarError::Regex { offset, .. }) => offset,
        other => panic!("{pattern}: {other:?}"),
    };
    assert_eq!(offset("a*(?=bc)[ab]*"), 2);
    assert_eq!(offset("[ab]*(?<=ab)c*"), 5);
    assert_eq!(offset("((?=ab)a)*"), 1);
    assert_eq!(offset(r"(a)\1"), 3);
    assert_eq!(offset(r"(?<x>a)\k<x>"), 7);
    assert_eq!(offset(r"a\012"), 1);
    assert_eq!(offset(r"a\Z"), 1);
    assert_eq!(offset(r"\u{110000}"), 0);
    assert_eq!(offset(r"\xg0"), 0);
    assert_eq!(offset(r"\p{Klingon}"), 0);
    assert_eq!(offset(r"\c1"), 0);
    assert_eq!(offset("*a"), 0);
    assert_eq!(offset("a|{2}"), 2);
    assert_eq!(offset("a**"), 2);
    assert_eq!(offset("^*"), 0);
    assert_eq!(offset("a{2,1}"), 1);
    assert_eq!(offset("a{99999999999}"), 1);
    assert_eq!(offset("[z-a]"), 1);
    assert_eq!(offset("[[]a)"), 4);
    assert_eq!(offset("[a"), 0);
    assert_eq!(offset("ab(c"), 2);
    assert_eq!(offset("x(?m)^a"), 1);
    assert_eq!(offset("x(?>a)"), 1);
}

#[test]
fn what_matches_nothing_is_refused() {
    for pattern in [
        "a^b",
        "a$b",
        "[]",
        "[^\\s\\S]a",
        "ab(?=c)",
        r"a\bb",
        "(?!a)a",
        r"\uD800",
    ] {
        let error = Constraint::regex(pattern, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, GrammarError::Empty { .. }),
            "{pattern}: {error}"
        );
    }
}

#[test]
fn ecma_syntax() {
    let vocabulary = vocabulary();
    let limits = Limits::default();
    let holds = |pattern: &str, text: &str| {
        accepts(
            &Constraint::regex(pattern, &limits).unwrap(),
            &vocabulary,
            text.as_bytes(),
        )
    };
    assert!(holds("[[a]", "["));
    assert!(holds("[a&&b]", "&"));
    assert!(!holds(r"\d", "٣"));
    assert!(!holds(r"\w", "é"));
    assert!(holds(r"\s", "\u{2003}"));
    assert!(!holds(r"\S", "\u{FEFF}"));
    assert!(!holds(".", "\u{2028}"));
    assert!(!holds(".", "\r"));
    assert!(holds("(?s:.)", "\n"));
    assert!(holds("[^]", "\n"));
    assert!(holds(r"a\/b", "a/b"));
    assert!(holds(r"\-\_\@\ \<\>\é]{}", "-_@ <>é]{}"));
    assert!(holds("a{,2}b{x}c{1", "a{,2}b{x}c{1"));
    assert!(holds(r"[\w-.]+[\b][a-\d]", "a-.\u{8}-"));
    assert!(holds(
        r"\cJ\0\t\v\x41\u00e9\u{1F600}\uD83D\uDE00",
        "\n\0\t\u{B}Aé😀😀"
    ));
    assert!(holds("(?<year>[0-9]{4})-(?:x|y){2}?", "2024-xy"));
    assert!(holds("(?i:é)b", "Éb") && !holds("(?i:é)b", "ÉB"));
}

#[test]
fn unicode_properties() {
    let vocabulary = vocabulary();
    let holds = |pattern: &str, text: &str| {
        let constraint = Constraint::regex(pattern, &Limits::default()).unwrap();
        accepts(&constraint, &vocabulary, text.as_bytes())
    };
    for letter in [
        r"\p{L}",
        r"\p{Letter}",
        r"\p{gc=L}",
        r"\p{General_Category=Letter}",
    ] {
        assert!(holds(letter, "é") && holds(letter, "日") && !holds(letter, "1"));
    }
    for greek in [
        r"\p{Script=Greek}",
        r"\p{sc=Grek}",
        r"[\p{Script_Extensions=Greek}]",
    ] {
        assert!(holds(greek, "λ") && !holds(greek, "l"));
    }
    assert!(holds(r"\P{Lu}[^\p{Nd}]", "ab") && !holds(r"\P{Lu}", "A"));
    assert!(holds(r"\p{Alphabetic}\p{ASCII}\p{Any}", "éa日"));
}

#[test]
fn lookarounds() {
    let vocabulary = vocabulary();
    let holds = |pattern: &str, text: &str| {
        let constraint = Constraint::regex(pattern, &Limits::default()).unwrap();
        accepts(&constraint, &vocabulary, text.as_bytes())
    };
    let password = r"(?=.*[A-Z])(?=.*[0-9])(?!.*\s).{4,}";
    assert!(holds(password, "abC1") && holds(password, "1éX-"));
    assert!(!holds(password, "abc1") && !holds(password, "A1") && !holds(password, "AB 12"));
    let name = "^(?!(?:if|else)$)[a-z]+$";
    assert!(holds(name, "iff") && holds(name, "e") && !holds(name, "if") && !holds(name, "else"));
    assert!(holds("((?!--).)*", "a-b-") && !holds("((?!--).)*", "a--b"));
    assert!(holds(".*(?<!x)", "ab") && holds(".*(?<!x)", "") && !holds(".*(?<!x)", "abx"));
    assert!(
        holds("[a-z](?:(?!.*--)[a-z-]*[a-z])?", "a-b")
            && !holds("[a-z](?:(?!.*--)[a-z-]*[a-z])?", "a--b")
    );
    assert!(holds(r"the\b [a-z]+\b!", "the foo!"));
    let comment = r"/\*(\*(?!/)|[^*])*\*/";
    assert!(holds(comment, "/* a * b **/") && !holds(comment, "/* a */ b */"));
    let words = r"\b(?:the|an?)\b(?: \b[a-z]+\b(?<!ing))*";
    assert!(holds(words, "an ant sings") && !holds(words, "the sing") && !holds(words, "anx"));
    assert!(
        holds(r"[a-z.]*\.(?!exe)[a-z.]*", "a.b.exe.c") && !holds(r"[a-z]*\.(?!exe)[a-z]*", "a.exe")
    );
}

#[test]
fn masks_with_lookarounds_equal_brute_force() {
    let vocabulary = vocabulary();
    let mut random = Random(13);
    for regex in [
        r"(?=.*[A-Z])(?=.*[0-9])(?!.*\s).{4,}",
        "(?!(?:if|else|foo|bar)$)[a-z_]+",
        r"((?!--|\]\]).)*",
        r"\d{4}(?!-0)-\d\d(?<!3)",
        r"/(/(?!/)|[^/])*/",
    ] {
        let constraint = Constraint::regex(regex, &Limits::default()).unwrap();
        for n_free in 0..8 {
            let mut matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary)).unwrap();
            let mut mask = TokenMask::new(vocabulary.n_tokens());
            matcher.mask(&mut mask).unwrap();
            assert_eq!(mask, brute_force_mask(&matcher, &vocabulary), "{regex}");
            random_output(&mut matcher, &vocabulary, &mut random, n_free);
            assert!(matcher.is_complete(), "{regex}");
        }
    }
}

#[test]
fn rust_syntax() {
    let vocabulary = vocabulary();
    let limits = Limits::default();
    let holds = |pattern: &str, text: &str| {
        let constraint = Constraint::regex_with(pattern, RegexSyntax::Rust, &limits).unwrap();
        accepts(&constraint, &vocabulary, text.as_bytes())
    };
    assert!(holds(r"\d", "٣") && holds(r"\w", "é"));
    assert!(holds("[a-c&&b-d]+", "bc") && !holds("[a-c&&b-d]+", "a"));
    assert!(holds("(?x) a b # c", "ab"));
    for (pattern, offset) in [("(?=a)", 0), ("a(", 1), (r"a\bb", 0)] {
        let error = Constraint::regex_with(pattern, RegexSyntax::Rust, &limits).unwrap_err();
        let at = |error| matches!(error, GrammarError::Regex { offset: at, .. } if at == offset);
        assert!(at(error), "{pattern}");
    }
}
