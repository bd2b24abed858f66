//! Scans and tags against a search of the definition.

use proptest::prelude::*;

use crate::regex::table::Table;
use crate::tags::scan::Scan;
use crate::tags::{StructuralTag, StructuralTags};
use crate::{Constraint, Limits};

/// Where the first trigger ends, and which triggers end there.
fn first_hit(text: &str, triggers: &[String]) -> Option<(usize, Vec<usize>)> {
    (0..=text.len()).find_map(|end| {
        let hits: Vec<usize> = (0..triggers.len())
            .filter(|&idx| text.as_bytes()[..end].ends_with(triggers[idx].as_bytes()))
            .collect();
        (!hits.is_empty()).then_some((end, hits))
    })
}

fn accepts(scanner: &Table, text: &[u8]) -> bool {
    let end = text
        .iter()
        .try_fold(0, |state, &byte| scanner.step(state, byte));
    end.is_some_and(|state| scanner.distance(state) == 0)
}

/// Whether `text` is an output of `tags` whose contents are `[ab]+` and whose counts are free.
fn is_output(text: &str, tags: &StructuralTags) -> bool {
    let Some((end, hits)) = first_hit(text, &tags.triggers) else {
        return true;
    };
    let begun = |tag: &&StructuralTag| {
        hits.iter()
            .any(|&idx| tag.begin.starts_with(&tags.triggers[idx]))
    };
    tags.tags.iter().filter(begun).any(|tag| {
        hits.iter().any(|&idx| {
            let rest = tag.begin.strip_prefix(tags.triggers[idx].as_str());
            let Some(inside) = rest.and_then(|rest| text[end..].strip_prefix(rest)) else {
                return false;
            };
            let n_content = inside
                .bytes()
                .take_while(|byte| b"ab".contains(byte))
                .count();
            (1..=n_content).any(|n| {
                let after = inside[n..].strip_prefix(tag.end.as_str());
                after.is_some_and(|after| is_output(after, tags))
            })
        })
    })
}

fn tag(begin: &str, end: &str) -> StructuralTag {
    StructuralTag {
        begin: begin.into(),
        content: Constraint::regex("[ab]+", &Limits::default()).unwrap(),
        end: end.into(),
    }
}

fn tags(triggers: &[&str], tags: Vec<StructuralTag>) -> StructuralTags {
    StructuralTags {
        triggers: triggers.iter().map(ToString::to_string).collect(),
        tags,
        ..StructuralTags::default()
    }
}

fn holds(tags: &StructuralTags, text: &str) -> bool {
    let constraint = Constraint::structural_tags(tags, &Limits::default()).unwrap();
    let mut language = constraint.language(&[]);
    let mut state = language.start();
    for &byte in text.as_bytes() {
        match language.step(&state, byte).unwrap() {
            Some(next) => state = next,
            None => return false,
        }
    }
    language.is_complete(&state)
}

proptest! {
    #[test]
    fn scans_find_the_first_trigger(
        triggers in prop::collection::vec("[<aé>]{1,3}", 1..4),
        texts in prop::collection::vec("[<aéx>]{0,8}", 20),
    ) {
        let scan = Scan::new(&triggers, &Limits::default()).unwrap();
        for text in texts {
            let hit = first_hit(&text, &triggers);
            prop_assert_eq!(accepts(&scan.free(), text.as_bytes()), hit.is_none());
            for (idx, _) in triggers.iter().enumerate() {
                // The scan numbers a repeated trigger as its first copy.
                let first = triggers.iter().position(|other| *other == triggers[idx]).unwrap();
                let ends = matches!(&hit, Some((end, hits)) if *end == text.len() && hits.contains(&idx));
                prop_assert_eq!(accepts(&scan.until(first), text.as_bytes()), ends, "{}", text);
            }
        }
    }

    #[test]
    fn tags_hold_as_defined(texts in prop::collection::vec("(<|<f|=a|=b|>|/|a|b|x|é|<f=a>|</f>|<g>|!){0,8}", 50)) {
        let tags = tags(&["<f=", "<g", "g>"], vec![
            tag("<f=a>", "</f>"),
            tag("<f=b>", "!"),
            tag("<g>a", "/"),
            tag("g>", ""),
        ]);
        for text in texts {
            prop_assert_eq!(holds(&tags, &text), is_output(&text, &tags), "{}", text);
        }
    }
}

#[test]
fn distances_avoid_other_triggers() {
    // After `xa`, `b` would end `xab` before `abcd`: another byte must come between.
    let triggers = ["abcd", "xab"].map(String::from);
    let scan = Scan::new(&triggers, &Limits::default()).unwrap();
    let scanner = scan.until(0);
    let after = |text: &[u8]| {
        text.iter()
            .try_fold(0, |state, &byte| scanner.step(state, byte))
    };
    assert_eq!(scanner.distance(after(b"xa").unwrap()), 4);
    assert_eq!(scanner.distance(after(b"ya").unwrap()), 3);
    assert_eq!(after(b"xab"), None);
    assert_eq!(scan.free().distance(scan.free().step(0, 0xE2).unwrap()), 2);
}

#[test]
fn counts_are_kept() {
    let one = || tags(&["<"], vec![tag("<", ">")]);
    let counted = |at_least, at_most| StructuralTags {
        at_least,
        at_most,
        ..one()
    };
    assert!(!holds(&counted(1, None), "x"));
    assert!(holds(&counted(1, None), "x<a>y<b>"));
    assert!(holds(&counted(2, Some(2)), "<a><b>z"));
    assert!(!holds(&counted(2, Some(2)), "<a><b><a>"));
    assert!(!holds(&counted(0, Some(1)), "<a>z<"));
    assert!(!holds(&counted(0, Some(0)), "<a>"));
    assert!(holds(&counted(0, Some(0)), "a>"));
    let stopping = |at_least| StructuralTags {
        stop_after_first: true,
        at_least,
        ..one()
    };
    assert!(holds(&stopping(0), "x<a>"));
    assert!(!holds(&stopping(0), "x<a>y"));
    assert!(holds(&stopping(0), "x"));
    assert!(!holds(&stopping(1), "x"));
}
