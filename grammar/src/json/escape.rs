//! Patterns over a string's characters turned into patterns over its JSON spelling.
//!
//! Each character class becomes the alternation of its raw UTF-8, its short escapes and its
//! `\uXXXX` forms, surrogate pairs included. So one byte automaton knows which half-written escapes
//! can still lead to a match.

use std::sync::LazyLock;

use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition,
};
use smallvec::SmallVec;

use crate::regex::syntax::surrounded;

/// Letters after `\`, with the characters they stand for.
const SHORT_ESCAPES: [(u8, char); 8] = [
    (b'"', '"'),
    (b'\\', '\\'),
    (b'/', '/'),
    (b'b', '\u{8}'),
    (b'f', '\u{C}'),
    (b'n', '\n'),
    (b'r', '\r'),
    (b't', '\t'),
];

/// Classes of one pattern whose spelling is remembered.
const MAX_REMEMBERED: usize = 64;

/// First and last, both included.
type NumberRange = (u32, u32);
type Ranges = SmallVec<[NumberRange; 4]>;

/// Every text, not spelled.
pub(crate) fn any_text() -> Hir {
    text(0, None)
}

/// Every body of a JSON string.
pub(crate) fn anything() -> Hir {
    static ANYTHING: LazyLock<Hir> = LazyLock::new(|| any(0, None));
    ANYTHING.clone()
}

/// The bodies of so many characters.
pub(crate) fn any(min: u32, max: Option<u32>) -> Hir {
    whole(&text(min, max))
}

fn text(min: u32, max: Option<u32>) -> Hir {
    let all = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
    Hir::repetition(Repetition {
        min,
        max,
        greedy: true,
        sub: Box::new(Hir::class(Class::Unicode(all))),
    })
}

/// The bodies of JSON strings that hold a match of `hir` anywhere, as `pattern` has it in JSON
/// Schema.
pub(crate) fn search(hir: &Hir) -> Hir {
    surrounded(whole(hir), anything)
}

/// The bodies of JSON strings that match `hir` as a whole.
pub(crate) fn whole(hir: &Hir) -> Hir {
    spelled(hir, &mut remembered(class))
}

/// Those of them without an escape that can be avoided.
pub(crate) fn plain(hir: &Hir) -> Hir {
    spelled(hir, &mut remembered(plain_class))
}

/// The same for classes that come again: `^\d{4}-\d\d-\d\d$` has one class five times.
fn remembered(class: impl Fn(&ClassUnicode) -> Hir) -> impl FnMut(&ClassUnicode) -> Hir {
    let mut known: Vec<(ClassUnicode, Hir)> = Vec::new();
    move |unicode| {
        if let Some((_, hir)) = known.iter().find(|(other, _)| other == unicode) {
            return hir.clone();
        }
        let hir = class(unicode);
        if known.len() < MAX_REMEMBERED {
            known.push((unicode.clone(), hir.clone()));
        }
        hir
    }
}

/// The depth of `hir` is bounded by the parser's nest limit, and so is this recursion.
fn spelled(hir: &Hir, class: &mut impl FnMut(&ClassUnicode) -> Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Look(look) => Hir::look(*look),
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0);
            let one = |c| ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            Hir::concat(text.chars().map(|c| class(&one(c))).collect())
        }
        HirKind::Class(Class::Unicode(unicode)) => class(unicode),
        HirKind::Class(Class::Bytes(bytes)) => match bytes.to_unicode_class() {
            Some(unicode) => class(&unicode),
            None => Hir::fail(),
        },
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            min: repetition.min,
            max: repetition.max,
            greedy: repetition.greedy,
            sub: Box::new(spelled(&repetition.sub, class)),
        }),
        HirKind::Capture(capture) => spelled(&capture.sub, class),
        HirKind::Concat(parts) => {
            Hir::concat(parts.iter().map(|part| spelled(part, class)).collect())
        }
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(|part| spelled(part, class)).collect())
        }
    }
}

/// Characters that stand for themselves, where they are in the class.
fn raw(class: &ClassUnicode) -> ClassUnicode {
    let mut raw = class.clone();
    raw.difference(&ClassUnicode::new([
        ClassUnicodeRange::new('\0', '\x1F'),
        ClassUnicodeRange::new('"', '"'),
        ClassUnicodeRange::new('\\', '\\'),
    ]));
    raw
}

fn plain_class(class: &ClassUnicode) -> Hir {
    let mut escaped = class.clone();
    escaped.difference(&raw(class));
    let letters = SHORT_ESCAPES.iter().filter(|(_, c)| contains(&escaped, *c));
    let mut any = vec![Hir::class(Class::Unicode(raw(class)))];
    if !escaped.ranges().is_empty() {
        let letter = bytes(letters.map(|&(letter, _)| letter));
        any.push(Hir::concat(vec![bytes([b'\\']), letter]));
    }
    Hir::alternation(any)
}

fn contains(class: &ClassUnicode, c: char) -> bool {
    let mut ranges = class.ranges().iter();
    ranges.any(|range| range.start() <= c && c <= range.end())
}

fn class(class: &ClassUnicode) -> Hir {
    let raw = raw(class);
    let short = SHORT_ESCAPES
        .iter()
        .filter(|(_, c)| contains(class, *c))
        .map(|&(letter, _)| letter);
    let escape = Hir::alternation(vec![bytes(short), unicode_escapes(class)]);
    Hir::alternation(vec![
        Hir::class(Class::Unicode(raw)),
        Hir::concat(vec![bytes([b'\\']), escape]),
    ])
}

/// What follows the backslash of `\uXXXX` and `\uXXXX\uXXXX`.
fn unicode_escapes(class: &ClassUnicode) -> Hir {
    let mut units: Vec<NumberRange> = Vec::new();
    let mut pairs: Vec<Hir> = Vec::new();
    let mut push_pair = |high: (u32, u32), low: (u32, u32)| {
        pairs.push(Hir::concat(vec![
            hex(&[(0xD800 + high.0, 0xD800 + high.1)], 4),
            bytes([b'\\']),
            bytes([b'u']),
            hex(&[(0xDC00 + low.0, 0xDC00 + low.1)], 4),
        ]));
    };
    for range in class.ranges() {
        let (start, end) = (u32::from(range.start()), u32::from(range.end()));
        for (lo, hi) in [(0, 0xD7FF), (0xE000, 0xFFFF)] {
            if start.max(lo) <= end.min(hi) {
                units.push((start.max(lo), end.min(hi)));
            }
        }
        let Some(end) = end.checked_sub(0x10000) else {
            continue;
        };
        let start = start.saturating_sub(0x10000);
        let (first, last) = (start >> 10, end >> 10);
        let (first_low, last_low) = (start & 0x3FF, end & 0x3FF);
        if first == last {
            push_pair((first, first), (first_low, last_low));
            continue;
        }
        push_pair((first, first), (first_low, 0x3FF));
        if first + 1 < last {
            push_pair((first + 1, last - 1), (0, 0x3FF));
        }
        push_pair((last, last), (0, last_low));
    }
    pairs.push(hex(&units, 4));
    Hir::concat(vec![bytes([b'u']), Hir::alternation(pairs)])
}

/// The numbers of ascending `ranges` in `n_digits` hexadecimal digits of either case; digits with equal
/// rests share them.
fn hex(ranges: &[NumberRange], n_digits: u32) -> Hir {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return Hir::fail();
    };
    let places = (0..n_digits).rev();
    if first.0 == last.1 {
        return Hir::concat(
            places
                .map(|place| digit(first.0 >> (4 * place) & 15))
                .collect(),
        );
    }
    if ranges == [(0, 16u32.pow(n_digits) - 1)] {
        return Hir::concat(places.map(|_| bytes(*b"0123456789ABCDEFabcdef")).collect());
    }
    let unit = 16u32.pow(n_digits - 1);
    let mut groups: Vec<(Ranges, Vec<u8>)> = Vec::new();
    for digit in first.0 / unit..=last.1 / unit {
        let (lo, hi) = (digit * unit, (digit + 1) * unit - 1);
        let rest: Ranges = ranges
            .iter()
            .filter(|&&(start, end)| start.max(lo) <= end.min(hi))
            .map(|&(start, end)| (start.max(lo) - lo, end.min(hi) - lo))
            .collect();
        if rest.is_empty() {
            continue;
        }
        let spellings = spellings(digit);
        match groups.iter_mut().find(|(other, _)| *other == rest) {
            Some((_, digits)) => digits.extend(spellings),
            None => groups.push((rest, spellings.to_vec())),
        }
    }
    let spelled = |(rest, digits): (Ranges, Vec<u8>)| {
        Hir::concat(vec![bytes(digits), hex(&rest, n_digits - 1)])
    };
    Hir::alternation(groups.into_iter().map(spelled).collect())
}

/// A hexadecimal digit in either case.
fn spellings(digit: u32) -> [u8; 2] {
    let lower = b"0123456789abcdef"[digit as usize];
    [lower, lower.to_ascii_uppercase()]
}

fn digit(digit: u32) -> Hir {
    match spellings(digit) {
        [lower, upper] if lower == upper => Hir::literal([lower]),
        either => bytes(either),
    }
}

fn bytes(allowed: impl IntoIterator<Item = u8>) -> Hir {
    let ranges = allowed
        .into_iter()
        .map(|byte| ClassBytesRange::new(byte, byte));
    Hir::class(Class::Bytes(ClassBytes::new(ranges)))
}
