//! What a parser makes of a pattern: its syntax tree ([`Node`]), or, where it is only asked whether it is one, an outline,
//! which holds nothing on the heap.

use regex_syntax::hir::ClassUnicode;

use crate::regex::node::{Around, Node};
use crate::regex::set::Set;

/// A pattern, or a part of one.
pub(crate) trait Part: Sized {
    type Set: Set;

    /// One character of a set.
    fn class(set: Self::Set) -> Self;
    /// Parts one after the other; never one.
    fn concat(parts: Vec<Self>) -> Self;
    /// One of some parts; never one.
    fn alternation(options: Vec<Self>) -> Self;
    /// So many of a part.
    fn repeat(body: Self, min: u32, max: Option<u32>) -> Self;
    /// `^`.
    fn start() -> Self;
    /// `$`.
    fn end() -> Self;
    /// `\b`, or `\B` where `negated`.
    fn boundary(negated: bool, offset: usize) -> Self;
    /// A lookahead or lookbehind around `body`, which begins at `offset`.
    fn around(body: Self, is_ahead: bool, negated: bool, offset: usize) -> Self;
    /// Whether it is an anchor, a word boundary or a lookaround, which cannot be repeated.
    fn is_assertion(&self) -> bool;
}

impl Part for Node {
    type Set = ClassUnicode;

    fn class(set: ClassUnicode) -> Self {
        Self::Class(set)
    }

    fn concat(parts: Vec<Self>) -> Self {
        Self::Concat(parts)
    }

    fn alternation(options: Vec<Self>) -> Self {
        Self::Alternation(options)
    }

    fn repeat(body: Self, min: u32, max: Option<u32>) -> Self {
        let body = Box::new(body);
        Self::Repeat { body, min, max }
    }

    fn start() -> Self {
        Self::Start
    }

    fn end() -> Self {
        Self::End
    }

    fn boundary(negated: bool, offset: usize) -> Self {
        Self::Boundary { negated, offset }
    }

    fn around(body: Self, is_ahead: bool, negated: bool, offset: usize) -> Self {
        Self::Around(Around {
            is_ahead,
            negated,
            body: Box::new(body),
            offset,
        })
    }

    fn is_assertion(&self) -> bool {
        matches!(
            self,
            Self::Start | Self::End | Self::Boundary { .. } | Self::Around(_)
        )
    }
}

/// What decides whether a pattern is read at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    is_assertion: bool,
    /// Whether it is or holds a lookaround or word boundary.
    pub(crate) has_around: bool,
}

impl Outline {
    const ANCHOR: Self = Self {
        is_assertion: true,
        has_around: false,
    };
    const AROUND: Self = Self {
        is_assertion: true,
        has_around: true,
    };
}

impl Part for Outline {
    type Set = ();

    fn class((): ()) -> Self {
        Self::default()
    }

    fn concat(parts: Vec<Self>) -> Self {
        Self {
            is_assertion: false,
            has_around: parts.iter().any(|part| part.has_around),
        }
    }

    fn alternation(options: Vec<Self>) -> Self {
        Self::concat(options)
    }

    fn repeat(body: Self, _: u32, _: Option<u32>) -> Self {
        Self {
            is_assertion: false,
            ..body
        }
    }

    fn start() -> Self {
        Self::ANCHOR
    }

    fn end() -> Self {
        Self::ANCHOR
    }

    fn boundary(_: bool, _: usize) -> Self {
        Self::AROUND
    }

    fn around(_: Self, _: bool, _: bool, _: usize) -> Self {
        Self::AROUND
    }

    fn is_assertion(&self) -> bool {
        self.is_assertion
    }
}
