//! Lookarounds as Boolean combinations of patterns without any.
//!
//! Where a lookahead stands a fixed number of characters after the text's beginning, or a
//! lookbehind before its end, it is a condition on the text of its own: `^a(?!b)c` is `^ac` and not
//! `^.b`. At the borders of an unanchored pattern, and beside a single character, it is a part of
//! the pattern: `a(?=b)` is `ab`, `(?!b)[a-z]` is `[ac-z]`. A loop `(?:(?!x).)*$` at a fixed place
//! says that no `x` follows there. Alternatives and short repetitions are taken apart for this. All
//! else is refused with its byte offset.

use regex_syntax::hir::{ClassUnicode, Hir};

use crate::GrammarError;
use crate::regex::node::{Around, Node};
use crate::regex::set::{complement, word};

/// Alternatives of a pattern after it was taken apart.
const MAX_OPTIONS: usize = 64;
/// Most copies of a repetition that is taken apart.
const MAX_COPIES: u32 = 4;

/// A condition on a text. Each regex is searched for, so it matches as a whole only if anchored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Boolean {
    Hir(Hir),
    And(Vec<Boolean>),
    Or(Vec<Boolean>),
    Not(Box<Boolean>),
}

/// The condition that `node` is found in a text.
pub(crate) fn search(node: Node) -> Result<Boolean, GrammarError> {
    if node.first_around().is_none() {
        return Ok(Boolean::Hir(node.to_hir()));
    }
    let options: Result<Vec<Boolean>, _> = options(node)?.into_iter().map(conditions).collect();
    let mut options = options?;
    Ok(match options.len() {
        1 => options.remove(0),
        _ => Boolean::Or(options),
    })
}

fn refuse(offset: usize) -> GrammarError {
    GrammarError::Regex {
        offset,
        message: "a lookaround or word boundary is not supported at this place".into(),
    }
}

/// The sequences that `node` is a choice of. Their parts hold lookarounds only as themselves, or
/// within repetitions that were not taken apart.
fn options(node: Node) -> Result<Vec<Vec<Node>>, GrammarError> {
    let Some(offset) = node.first_around() else {
        return Ok(match node {
            Node::Concat(parts) => vec![parts],
            node => vec![vec![node]],
        });
    };
    let found = match node {
        Node::Concat(parts) => {
            let mut all = vec![Vec::new()];
            for part in parts {
                let heads = std::mem::take(&mut all);
                for tail in options(part)? {
                    all.extend(heads.iter().map(|head| [head.as_slice(), &tail].concat()));
                }
                if all.len() > MAX_OPTIONS {
                    return Err(refuse(offset));
                }
            }
            all
        }
        Node::Alternation(parts) => {
            let parts: Result<Vec<_>, _> = parts.into_iter().map(options).collect();
            parts?.into_iter().flatten().collect()
        }
        Node::Repeat {
            body,
            min,
            max: Some(max),
        } if max <= MAX_COPIES => {
            let copies =
                (min..=max).map(|n| options(Node::Concat(vec![(*body).clone(); n as usize])));
            let copies: Result<Vec<_>, _> = copies.collect();
            copies?.into_iter().flatten().collect()
        }
        node => vec![vec![node]],
    };
    if found.len() > MAX_OPTIONS {
        return Err(refuse(offset));
    }
    Ok(found)
}

/// The condition that a sequence is found.
fn conditions(mut parts: Vec<Node>) -> Result<Boolean, GrammarError> {
    let mut conditions = Vec::new();
    for idx in (0..parts.len()).rev() {
        if let Node::Boundary { negated, offset } = parts[idx] {
            parts[idx] = boundary(&parts, idx, negated, offset)?;
        }
    }
    // From the last, so that indices before it stay.
    for idx in (0..parts.len()).rev() {
        match &parts[idx] {
            Node::Around(around) => {
                let around = around.clone();
                parts[idx] = Node::empty();
                conditions.extend(resolve(&mut parts, idx, &around)?);
            }
            Node::Repeat { body, min, max } if body.first_around().is_some() => {
                let (forbidden, body) = tempered(body)?;
                let fixed = n_before(&parts, idx).filter(|_| n_after(&parts, idx) == Some(0));
                let n_before = fixed.ok_or_else(|| refuse(forbidden[0].offset))?;
                let repeat = Node::Repeat {
                    body: Box::new(body),
                    min: *min,
                    max: *max,
                };
                parts[idx] = repeat;
                for around in forbidden {
                    let anywhere = Node::Repeat {
                        body: Box::new(Node::any(1)),
                        min: n_before as u32,
                        max: None,
                    };
                    let found = Node::Concat(vec![Node::Start, anywhere, *around.body]);
                    conditions.push(Boolean::Not(Box::new(search(found)?)));
                }
            }
            _ => {}
        }
    }
    conditions.push(Boolean::Hir(Node::Concat(parts).to_hir()));
    conditions.reverse();
    Ok(match conditions.len() {
        1 => conditions.remove(0),
        _ => Boolean::And(conditions),
    })
}

/// The lookaheads and the character of the loop's body `(?!x)(?!y).`.
fn tempered(body: &Node) -> Result<(Vec<Around>, Node), GrammarError> {
    let refused = || refuse(body.first_around().unwrap_or(0));
    let Node::Concat(parts) = body else {
        return Err(refused());
    };
    let mut forbidden = Vec::new();
    let (last, arounds) = parts.split_last().ok_or_else(refused)?;
    for part in arounds {
        match part {
            Node::Around(around)
                if around.negated && around.is_ahead && !is_nullable(&around.body) =>
            {
                forbidden.push(around.clone());
            }
            _ => return Err(refused()),
        }
    }
    match last {
        Node::Class(_) if !forbidden.is_empty() => Ok((forbidden, last.clone())),
        _ => Err(refused()),
    }
}

/// Makes a lookaround, taken out of `parts` at `idx`, part of the pattern or a condition of its
/// own.
fn resolve(
    parts: &mut [Node],
    idx: usize,
    around: &Around,
) -> Result<Option<Boolean>, GrammarError> {
    let condition = |node: Node| {
        let found = search(node)?;
        Ok(Some(if around.negated {
            Boolean::Not(Box::new(found))
        } else {
            found
        }))
    };
    let constant = |holds: bool| {
        let always = Boolean::Hir(if holds { Hir::empty() } else { Hir::fail() });
        Ok(Some(always))
    };
    let body = (*around.body).clone();
    let (before, after) = (n_before(parts, idx), n_after(parts, idx));
    let (near, far) = match around.is_ahead {
        true => (before, after),
        false => (after, before),
    };
    let in_order = |near: Node, body: Node| match around.is_ahead {
        true => Node::Concat(vec![Node::Start, near, body]),
        false => Node::Concat(vec![body, near, Node::End]),
    };
    if let Some(n_near) = near {
        return condition(in_order(Node::any(n_near), body));
    }
    if let Some(n_far) = far.filter(|_| !body.has_anchors() && body.first_around().is_none()) {
        if n_far == 0 {
            return constant(is_nullable(&body) != around.negated);
        }
        if let Some(n_chars) = body.n_chars() {
            if n_chars > n_far {
                return constant(around.negated);
            }
            let rest = Node::any(n_far - n_chars);
            return condition(match around.is_ahead {
                true => Node::Concat(vec![body, rest, Node::End]),
                false => Node::Concat(vec![Node::Start, rest, body]),
            });
        }
    }
    beside(parts, idx, around).map(|()| None)
}

/// Makes a lookaround part of what stands next to it.
fn beside(parts: &mut [Node], idx: usize, around: &Around) -> Result<(), GrammarError> {
    let refused = refuse(around.offset);
    let is_zero = |node: &Node| *node == Node::empty();
    let neighbour = match around.is_ahead {
        true => (idx + 1..parts.len()).find(|&at| !is_zero(&parts[at])),
        false => (0..idx).rev().find(|&at| !is_zero(&parts[at])),
    };
    let single = match &*around.body {
        Node::Class(class) if around.negated => Some(complement(class.clone())),
        Node::Class(class) => Some(class.clone()),
        _ => None,
    };
    match (neighbour, single) {
        (Some(at), Some(allowed)) => match &mut parts[at] {
            Node::Class(class) => {
                class.intersect(&allowed);
                Ok(())
            }
            _ => Err(refused),
        },
        (None, single) => {
            let edge = if around.is_ahead {
                Node::End
            } else {
                Node::Start
            };
            parts[idx] = match single {
                Some(allowed) if around.negated => {
                    Node::Alternation(vec![edge, Node::Class(allowed)])
                }
                _ if around.negated || around.body.first_around().is_some() => return Err(refused),
                _ => (*around.body).clone(),
            };
            Ok(())
        }
        (Some(_), None) => Err(refused),
    }
}

/// Characters from the text's beginning to the part at `idx`, if their number is fixed.
fn n_before(parts: &[Node], idx: usize) -> Option<usize> {
    let left = &parts[..idx];
    let first = parts.iter().find(|part| !is_assertion(part));
    (first == Some(&Node::Start)).then_some(())?;
    left.iter()
        .try_fold(0, |sum, part| Some(sum + part.n_chars()?))
}

/// Characters from the part at `idx` to the text's end, if their number is fixed.
fn n_after(parts: &[Node], idx: usize) -> Option<usize> {
    let right = &parts[idx + 1..];
    let last = parts.iter().rev().find(|part| !is_assertion(part));
    (last == Some(&Node::End)).then_some(())?;
    right
        .iter()
        .try_fold(0, |sum, part| Some(sum + part.n_chars()?))
}

fn is_assertion(part: &Node) -> bool {
    matches!(part, Node::Around(_) | Node::Boundary { .. }) || *part == Node::empty()
}

/// Whether it can match nothing at the end of a text; it holds no lookarounds and no `^`.
fn is_nullable(node: &Node) -> bool {
    match node {
        Node::Class(_) => false,
        Node::Start | Node::End | Node::Boundary { .. } | Node::Around(_) => true,
        Node::Concat(parts) => parts.iter().all(is_nullable),
        Node::Alternation(parts) => parts.iter().any(is_nullable),
        Node::Repeat { body, min, .. } => *min == 0 || is_nullable(body),
    }
}

/// What is known of the character beside a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Word,
    /// No word character, or the text's border.
    Other,
    /// The pattern's border.
    Open,
}

/// A word boundary as an assertion about one character, or as a constant.
fn boundary(
    parts: &[Node],
    idx: usize,
    negated: bool,
    offset: usize,
) -> Result<Node, GrammarError> {
    let left = beside_char(parts[..idx].iter().rev(), true).ok_or_else(|| refuse(offset))?;
    let right = beside_char(parts[idx + 1..].iter(), false).ok_or_else(|| refuse(offset))?;
    // A boundary asks for unlike sides.
    let around = |is_ahead: bool, known: Beside| {
        let wants_word = (known == Beside::Word) == negated;
        Node::Around(Around {
            is_ahead,
            negated: !wants_word,
            body: Box::new(Node::Class(word())),
            offset,
        })
    };
    match (left, right) {
        (Beside::Open, Beside::Open) => Err(refuse(offset)),
        (Beside::Open, known) => Ok(around(false, known)),
        (known, Beside::Open) => Ok(around(true, known)),
        (left, right) if (left != right) != negated => Ok(Node::empty()),
        _ => Ok(Node::Class(ClassUnicode::empty())),
    }
}

/// What the nearest of `parts` says of its nearest character; `None` if that varies.
fn beside_char<'a>(mut parts: impl Iterator<Item = &'a Node>, is_left: bool) -> Option<Beside> {
    // What holds at this place whatever its characters are is passed over.
    let here = if is_left { Node::End } else { Node::Start };
    match parts.find(|part| !is_assertion(part) && **part != here) {
        None => Some(Beside::Open),
        Some(nearest) => edge_char(nearest, is_left),
    }
}

/// The kind of a part's last character, or of its first, if it has one.
fn edge_char(node: &Node, last: bool) -> Option<Beside> {
    match node {
        Node::Class(class) if is_within(class, &word()) => Some(Beside::Word),
        Node::Class(class) if is_within(class, &complement(word())) => Some(Beside::Other),
        Node::Start if last => Some(Beside::Other),
        Node::End if !last => Some(Beside::Other),
        Node::Concat(parts) => {
            let found = if last {
                beside_char(parts.iter().rev(), last)
            } else {
                beside_char(parts.iter(), last)
            };
            found.filter(|found| *found != Beside::Open)
        }
        Node::Alternation(options) => {
            let first = edge_char(options.first()?, last)?;
            let mut rest = options[1..].iter();
            rest.all(|option| edge_char(option, last) == Some(first))
                .then_some(first)
        }
        Node::Repeat { body, min: 1.., .. } => edge_char(body, last),
        _ => None,
    }
}

fn is_within(class: &ClassUnicode, all: &ClassUnicode) -> bool {
    let mut rest = class.clone();
    rest.difference(all);
    rest.ranges().is_empty()
}
