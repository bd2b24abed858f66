//! A pattern's syntax tree: what remains of it once escapes, classes and flags are resolved.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

/// A pattern, or a part of one. Groups leave no trace but their shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// One character of a set.
    Class(ClassUnicode),
    Concat(Vec<Node>),
    Alternation(Vec<Node>),
    Repeat {
        body: Box<Node>,
        min: u32,
        max: Option<u32>,
    },
    /// `^`.
    Start,
    /// `$`.
    End,
    /// `\b`, or `\B` where `negated`.
    Boundary {
        negated: bool,
        offset: usize,
    },
    Around(Around),
}

/// A lookahead or lookbehind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Around {
    pub(crate) is_ahead: bool,
    pub(crate) negated: bool,
    pub(crate) body: Box<Node>,
    /// Where it begins in the pattern, in bytes.
    pub(crate) offset: usize,
}

impl Node {
    pub(crate) fn empty() -> Self {
        Self::Concat(Vec::new())
    }

    /// Any character at all, `n` times.
    pub(crate) fn any(n: usize) -> Self {
        let any = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
        let n = n as u32;
        Self::Repeat {
            body: Box::new(Self::Class(any)),
            min: n,
            max: Some(n),
        }
    }

    /// Where the first lookaround or word boundary stands.
    pub(crate) fn first_around(&self) -> Option<usize> {
        match self {
            Self::Class(_) | Self::Start | Self::End => None,
            Self::Boundary { offset, .. } => Some(*offset),
            Self::Around(around) => Some(around.offset),
            Self::Concat(parts) | Self::Alternation(parts) => {
                parts.iter().find_map(Self::first_around)
            }
            Self::Repeat { body, .. } => body.first_around(),
        }
    }

    /// Whether it is `anchor`, `^` or `$`, or holds it.
    pub(crate) fn contains(&self, anchor: &Self) -> bool {
        match self {
            Self::Start | Self::End => self == anchor,
            Self::Class(_) | Self::Boundary { .. } => false,
            Self::Around(around) => around.body.contains(anchor),
            Self::Concat(parts) | Self::Alternation(parts) => {
                parts.iter().any(|part| part.contains(anchor))
            }
            Self::Repeat { body, .. } => body.contains(anchor),
        }
    }

    /// Whether it holds `^` or `$`.
    pub(crate) fn has_anchors(&self) -> bool {
        self.contains(&Self::Start) || self.contains(&Self::End)
    }

    /// How many characters it matches, if always the same number.
    pub(crate) fn n_chars(&self) -> Option<usize> {
        match self {
            Self::Class(_) => Some(1),
            Self::Start | Self::End | Self::Boundary { .. } | Self::Around(_) => Some(0),
            Self::Concat(parts) => parts
                .iter()
                .try_fold(0_usize, |sum, part| sum.checked_add(part.n_chars()?)),
            Self::Alternation(options) => {
                let n_chars = options.first()?.n_chars()?;
                let all_same = options
                    .iter()
                    .all(|option| option.n_chars() == Some(n_chars));
                all_same.then_some(n_chars)
            }
            Self::Repeat { body, min, max } => {
                let n_chars = body.n_chars()?;
                match max {
                    Some(max) if max == min => n_chars.checked_mul(*min as usize),
                    _ => (n_chars == 0).then_some(0),
                }
            }
        }
    }

    /// The regex of a pattern without lookarounds and word boundaries.
    pub(crate) fn to_hir(&self) -> Hir {
        match self {
            Self::Class(class) => Hir::class(Class::Unicode(class.clone())),
            Self::Concat(parts) => Hir::concat(parts.iter().map(Self::to_hir).collect()),
            Self::Alternation(options) => {
                Hir::alternation(options.iter().map(Self::to_hir).collect())
            }
            Self::Repeat { body, min, max } => Hir::repetition(Repetition {
                min: *min,
                max: *max,
                greedy: true,
                sub: Box::new(body.to_hir()),
            }),
            Self::Start => Hir::look(Look::Start),
            Self::End => Hir::look(Look::End),
            Self::Boundary { .. } | Self::Around(_) => {
                unreachable!("lookarounds are resolved before")
            }
        }
    }
}
