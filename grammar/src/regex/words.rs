//! Patterns that only a few texts match: `^(?:GET|PUT)$` is a list of words, and is treated as one.
//!
//! Words are of printable ASCII, which is always written as it is: of other characters a pattern leaves
//! open whether they are escaped, and a list of values does not.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::fragments::N_BYTES;
use crate::runs;

/// Most words of a list, and bytes of one.
const MAX_WORDS: usize = 64;
const MAX_WORD_BYTES: usize = 256;

/// A text that a part of a pattern matches, and whether the whole text must begin before it and end
/// after it.
#[derive(Clone, Default, PartialEq, Eq)]
struct Word {
    text: String,
    begins: bool,
    ends: bool,
}

impl Word {
    /// This one and then another; `None` if no text has both.
    fn then(&self, next: &Self) -> Option<Self> {
        let apart = self.ends && !next.text.is_empty() || next.begins && !self.text.is_empty();
        (!apart).then(|| Self {
            text: format!("{}{}", self.text, next.text),
            begins: self.begins || next.begins,
            ends: self.ends || next.ends,
        })
    }
}

/// The texts in which `hir` is found, each once, if they are few.
pub(crate) fn words(hir: &Hir) -> Option<Vec<String>> {
    let longest = hir.properties().maximum_len()?;
    if longest > MAX_WORD_BYTES {
        return None;
    }
    let found = distinct(matches(hir)?.into_iter())?;
    let is_whole = found.iter().all(|word| word.begins && word.ends);
    is_whole.then(|| found.into_iter().map(|word| word.text).collect())
}

/// The words of which a pattern without anchors matches one, if they are few, of some length, and of printable ASCII that JSON
/// writes as it is.
pub(crate) fn searched_words(hir: &Hir) -> Option<Box<[Box<[u8]>]>> {
    let properties = hir.properties();
    let is_short = properties
        .maximum_len()
        .is_some_and(|longest| longest <= MAX_WORD_BYTES);
    if !is_short || properties.minimum_len() < Some(N_BYTES) || !properties.look_set().is_empty() {
        return None;
    }
    let found = matches(hir)?;
    let is_plain = |word: &Word| word.text.is_ascii() && runs::is_plain(word.text.as_bytes());
    let each = || found.iter().map(|word| word.text.as_bytes().into());
    found.iter().all(is_plain).then(|| each().collect())
}

/// What a part of a pattern matches, each once.
fn matches(hir: &Hir) -> Option<Vec<Word>> {
    let text = |text: String| Word {
        text,
        ..Word::default()
    };
    Some(match hir.kind() {
        HirKind::Empty => vec![Word::default()],
        HirKind::Literal(literal) => vec![text(str::from_utf8(&literal.0).ok()?.to_owned())],
        HirKind::Class(Class::Unicode(class)) => {
            let n: usize = class.ranges().iter().map(|range| range.len()).sum();
            let each = class.iter().flat_map(|range| range.start()..=range.end());
            (n <= MAX_WORDS).then(|| each.map(|c| text(c.into())).collect())?
        }
        HirKind::Look(Look::Start) => vec![Word {
            begins: true,
            ..Word::default()
        }],
        HirKind::Look(Look::End) => vec![Word {
            ends: true,
            ..Word::default()
        }],
        HirKind::Capture(capture) => matches(&capture.sub)?,
        HirKind::Concat(parts) => parts
            .iter()
            .try_fold(vec![Word::default()], |words, part| {
                joined(&words, &matches(part)?)
            })?,
        HirKind::Alternation(parts) => {
            let each: Option<Vec<Vec<Word>>> = parts.iter().map(matches).collect();
            distinct(each?.into_iter().flatten())?
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.filter(|&max| max as usize <= MAX_WORDS)?;
            let body = matches(&repetition.sub)?;
            let (mut copies, mut all) = (vec![Word::default()], Vec::new());
            for n in 0..=max {
                if n >= repetition.min {
                    all = distinct(all.into_iter().chain(copies.iter().cloned()))?;
                }
                copies = joined(&copies, &body)?;
            }
            all
        }
        _ => return None,
    })
}

/// Each word of one list followed by each of another.
fn joined(words: &[Word], nexts: &[Word]) -> Option<Vec<Word>> {
    distinct(
        words
            .iter()
            .flat_map(|word| nexts.iter().filter_map(|next| word.then(next))),
    )
}

/// The words, each once; `None` if they are many, long, or not plain.
fn distinct(words: impl Iterator<Item = Word>) -> Option<Vec<Word>> {
    let mut list: Vec<Word> = Vec::new();
    for word in words {
        if list.contains(&word) {
            continue;
        }
        let is_plain = word.text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_plain || list.len() == MAX_WORDS || word.text.len() > MAX_WORD_BYTES {
            return None;
        }
        list.push(word);
    }
    Some(list)
}
