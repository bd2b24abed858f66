//! The leaves of the JSON parser against independent ways to know the same: decimals, numbers,
//! text, what patterns tell apart.

use serde_json::{Number as JsonNumber, Value, json};

use crate::Limits;
use crate::json::decimal::{MAX_VALUE, OnGrid, POWERS};
use crate::json::escape;
use crate::json::number::{NEVER, Number, NumberRules, NumberShape};
use crate::json::text::BOUNDARY;
use crate::regex::fold::takes_visible_alike;
use crate::regex::program::Program;
use crate::regex::syntax;
use crate::trie::TokenTrie;

fn number(text: &str) -> JsonNumber {
    text.parse().unwrap()
}

#[test]
fn decimals_lie_exactly_on_the_grid_or_between_neighbours() {
    let one = POWERS[17];
    assert_eq!(OnGrid::new(&number("1")).exact(), Some(one));
    assert_eq!(OnGrid::new(&number("-0.5")).exact(), Some(-one / 2));
    assert_eq!(OnGrid::new(&number("1.5e3")).exact(), Some(1500 * one));
    assert_eq!(OnGrid::new(&number("2.5e-3")).exact(), Some(one / 400));
    assert_eq!(OnGrid::new(&number("1e-20")), OnGrid { floor: 0, ceil: 1 });
    assert_eq!(
        OnGrid::new(&number("-1e-20")),
        OnGrid { floor: -1, ceil: 0 }
    );
    let beyond = MAX_VALUE + 1;
    assert_eq!(
        OnGrid::new(&number("1e300")),
        OnGrid {
            floor: beyond,
            ceil: beyond
        }
    );
    assert_eq!(OnGrid::new(&number("1e18")).exact(), None);
    assert_eq!(OnGrid::new(&number("0.0")).exact(), Some(0));
}

/// Numbers of an interval, of a kind, that are multiples of something.
fn shape(
    integer: bool,
    lowest: Option<i128>,
    highest: Option<i128>,
    multiple: Option<i128>,
) -> NumberShape {
    NumberShape::new(NumberRules {
        integer,
        lowest,
        highest,
        multiples: multiple.into_iter().collect(),
        ..NumberRules::default()
    })
}

/// Every number of at most `n_bytes` bytes over a few characters, with whether the shape admits it.
fn spelled(
    shape: &NumberShape,
    number: Number,
    text: &mut String,
    n_bytes: usize,
    out: &mut Vec<String>,
) {
    if shape.is_complete(number) {
        out.push(text.clone());
    }
    if n_bytes == 0 {
        return;
    }
    for byte in b"-.0123456789".iter().copied() {
        if let Some(next) = shape.step(number, byte) {
            text.push(char::from(byte));
            spelled(shape, next, text, n_bytes - 1, out);
            text.pop();
        }
    }
}

#[test]
fn numbers_of_an_interval_are_those_that_arithmetic_admits() {
    let mut all = Vec::new();
    let any = shape(false, Some(-MAX_VALUE), None, None);
    spelled(&any, Number::START, &mut String::new(), 4, &mut all);
    let quarter = POWERS[17] / 4;
    for (integer, low, high, multiple) in [
        (false, 1, 9, None),
        (false, -9, -1, None),
        (false, -3, 400, Some(3)),
        (true, -48, 437, None),
        (true, -480, 480, Some(28)),
        (false, 0, 0, None),
        (false, 4000, 4001, None),
    ] {
        let (lowest, highest) = (low * quarter, high * quarter);
        let multiple_of = multiple.map(|multiple: i128| multiple * quarter);
        let numbers = shape(integer, Some(lowest), Some(highest), multiple_of);
        let mut given = Vec::new();
        spelled(&numbers, Number::START, &mut String::new(), 4, &mut given);
        let admitted = |text: &&String| {
            let value = OnGrid::new(&number(text)).exact().unwrap();
            (lowest..=highest).contains(&value)
                && multiple_of.is_none_or(|multiple| value % multiple == 0)
                && !(integer && (text.contains('.') || *text == "-0"))
        };
        let expected: Vec<String> = all.iter().filter(admitted).cloned().collect();
        assert_eq!(given, expected, "{low}/4 to {high}/4 by {multiple:?}");
    }
}

/// What is plainly taken is taken.
#[test]
fn digits_that_plainly_follow_do() {
    let texts: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let mut sorted: Vec<(&[u8], u32)> = texts.iter().map(|text| (text.as_bytes(), 0)).collect();
    sorted.sort_unstable();
    let tokens = TokenTrie::new(&sorted);
    let one = POWERS[17];
    let mut n_plain = 0;
    for (integer, lowest, highest) in [
        (false, None, None),
        (true, None, None),
        (true, Some(-12_345 * one), Some(54_321 * one)),
        (false, Some(one / 3), Some(99_999 * one)),
    ] {
        let numbers = shape(integer, lowest, highest, None);
        for start in [
            "",
            "-",
            "0",
            "1",
            "-1",
            "12",
            "-12",
            "54",
            "100",
            "123456789012345",
            "1234567890123456",
            "0.",
            "-0.3",
            "0.1",
            "1.12345678901234",
            "1.123456789012345",
            "54321.",
        ] {
            let step = |number, byte: &u8| numbers.step(number, *byte);
            let Some(number) = start.as_bytes().iter().try_fold(Number::START, step) else {
                continue;
            };
            if numbers.takes_all(number, &tokens) {
                n_plain += 1;
                for (text, _) in &sorted {
                    assert!(
                        text.iter().try_fold(number, step).is_some(),
                        "{start} {text:?}"
                    );
                }
            }
        }
    }
    assert!(n_plain > 20);
}

#[test]
fn a_number_that_no_continuation_saves_is_refused_early() {
    let one = POWERS[17];
    let numbers = shape(true, Some(150 * one), Some(1999 * one), Some(7 * one));
    let after = |text: &str| {
        text.bytes()
            .try_fold(Number::START, |number, byte| numbers.step(number, byte))
    };
    assert!(after("-").is_none() && after("0").is_none());
    assert!(after("1").is_some() && after("2").is_some());
    assert!(after("2000").is_none() && after("14").is_some());
    // 1,995 is the last multiple of 7 below 2,000.
    assert!(after("1995").is_some() && after("1994").is_none() && after("1996").is_none());
    assert_eq!(numbers.distance(after("199").unwrap()), 1);
    let nothing = shape(true, Some(one / 3), Some(one / 2), None);
    assert_eq!(nothing.distance(Number::START), NEVER);
}

/// A point after more digits than a float holds is none, so no decimals can make a multiple of the number.
#[test]
fn a_long_number_that_is_to_be_a_multiple_has_a_way_on() {
    let half = POWERS[17] / 2;
    for multiple in [3 * half, 5 * half, 7 * half] {
        let numbers = shape(false, None, None, Some(multiple));
        for start in 0..10 {
            let mut number = Number::START;
            for n in 0..18 {
                let next = (0..10)
                    .map(|digit| b'0' + (start + n + digit) % 10)
                    .find_map(|byte| numbers.step(number, byte));
                number = next.unwrap_or(number);
            }
            let mut left = numbers.distance(number);
            while left > 0 {
                let nearer = (0..=u8::MAX).filter_map(|byte| numbers.step(number, byte));
                number = nearer.min_by_key(|next| numbers.distance(*next)).unwrap();
                assert_eq!(numbers.distance(number), left - 1, "{multiple} {start}");
                left -= 1;
            }
        }
    }
}

#[test]
fn text_accepts_what_a_json_reader_does() {
    let bodies: Vec<String> = [
        "a", "é", "\\", "\\u", "\\ud83d", "\\ude00", "\\u00e9", "d8", "\\n", "\\x", "/", "\t",
    ]
    .iter()
    .flat_map(|a| ["", "b", "\\ude00", "\"", "41", "00"].map(|b| format!("{a}{b}")))
    .collect();
    for body in bodies {
        let end = body
            .bytes()
            .try_fold(BOUNDARY, |text, byte| text.step(byte));
        let read = serde_json::from_str::<Value>(&format!("\"{body}\""));
        assert_eq!(end == Some(BOUNDARY), read.is_ok(), "{body:?}");
    }
}

#[test]
fn text_distances_are_shortest() {
    let mut seen = vec![BOUNDARY];
    let mut n_done = 0;
    while n_done < seen.len() {
        let text = seen[n_done];
        n_done += 1;
        let next: Vec<_> = (0..=u8::MAX).filter_map(|byte| text.step(byte)).collect();
        if text != BOUNDARY {
            let nearest = next.iter().map(|next| next.distance() + 1).min();
            assert_eq!(nearest, Some(text.distance()));
        }
        for text in next {
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn names_have_one_spelling() {
    for name in ["a", "a\"b", "\\", "/", "\n\t\u{8}", "é日😀", "\u{7f}"] {
        let quoted = json!(name).to_string();
        let body = &quoted.as_bytes()[1..quoted.len() - 1];
        let end = body
            .iter()
            .try_fold(BOUNDARY, |text, &byte| text.step_canonical(byte));
        assert_eq!(end, Some(BOUNDARY), "{name:?}");
    }
    for spelling in [r"\u0061", r"\/"] {
        let end = spelling
            .bytes()
            .try_fold(BOUNDARY, |text, byte| text.step_canonical(byte));
        assert_eq!(end, None, "{spelling}");
    }
}

/// Within escapes they do.
#[test]
fn patterns_of_words_tell_no_visible_characters_apart() {
    let is_alike = |pattern: &str| {
        let hir = syntax::parse(pattern, &Limits::default()).unwrap();
        let program = Program::new(&escape::search(&hir), &Limits::default()).unwrap();
        takes_visible_alike(&program.nfa)
    };
    for pattern in [
        r"^(?:\S+\s+){0,9}\S+$",
        "^.*$",
        "",
        "é+",
        r"^[^\u0000-\u001F]{3}$",
        r"^\n\s*$",
        r#"^[^"\\]*$"#,
        r#"\\""#,
    ] {
        assert!(is_alike(pattern), "{pattern}");
    }
    for pattern in [
        "a",
        r"^\w*$",
        "^[^~]$",
        "^[!-z]$",
        r"^\n\S*!$",
        r"^\S*\n(?:\S|z\n)$",
    ] {
        assert!(!is_alike(pattern), "{pattern}");
    }
}
