//! Sets of characters, and those that have names. Where only the syntax of a pattern is asked for, a set is nothing (see
//! [`crate::regex::outline`]).
//!
//! Source: ECMA-262, sections 12.2, 12.3 and 22.2.2.9.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// A set of characters.
pub(crate) trait Set: Sized {
    /// The characters of some ranges.
    fn of(ranges: &[(char, char)]) -> Self;
    /// A set that is known.
    fn known(class: &ClassUnicode) -> Self;
    fn union(&mut self, other: &Self);
    fn negate(&mut self);
    /// Adds what differs from a character of the set only in case.
    fn fold_case(&mut self);
}

impl Set for ClassUnicode {
    fn of(ranges: &[(char, char)]) -> Self {
        let ranges = ranges.iter();
        Self::new(ranges.map(|&(low, high)| ClassUnicodeRange::new(low, high)))
    }

    fn known(class: &ClassUnicode) -> Self {
        class.clone()
    }

    fn union(&mut self, other: &Self) {
        Self::union(self, other);
    }

    fn negate(&mut self) {
        Self::negate(self);
    }

    fn fold_case(&mut self) {
        self.try_case_fold_simple()
            .expect("the case tables are compiled in");
    }
}

/// Which characters they are is not asked.
impl Set for () {
    fn of(_: &[(char, char)]) -> Self {}

    fn known(_: &ClassUnicode) -> Self {}

    fn union(&mut self, (): &Self) {}

    fn negate(&mut self) {}

    fn fold_case(&mut self) {}
}

/// `\d`.
pub(crate) fn digits<S: Set>() -> S {
    S::of(&[('0', '9')])
}

/// `\w`.
pub(crate) fn word<S: Set>() -> S {
    S::of(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
}

/// `\s`: ECMA-262's white space and line terminators.
pub(crate) fn space<S: Set>() -> S {
    S::of(&[
        ('\t', '\r'),
        (' ', ' '),
        ('\u{A0}', '\u{A0}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{2000}', '\u{200A}'),
        ('\u{2028}', '\u{2029}'),
        ('\u{202F}', '\u{202F}'),
        ('\u{205F}', '\u{205F}'),
        ('\u{3000}', '\u{3000}'),
        ('\u{FEFF}', '\u{FEFF}'),
    ])
}

/// What `.` does not match: ECMA-262's line terminators.
pub(crate) fn line_ends<S: Set>() -> S {
    S::of(&[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')])
}

/// What is not in a set.
pub(crate) fn complement<S: Set>(mut set: S) -> S {
    set.negate();
    set
}
