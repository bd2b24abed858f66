//! Placeholders: what a dry run puts where a model would have generated.

use std::sync::Arc;

use lmrun_grammar::{Constraint, Matcher, TokenMask, Vocabulary};

use crate::constraint::Shape;

/// Why a placeholder ended.
pub(crate) const FINISH: &str = "dry_run";

/// The longest placeholder, in bytes.
const MAX_BYTES: usize = 4096;

/// The text that stands for a generation: its name where any text will do, else a shortest text of its type.
///
/// # Errors
/// A limit of the automaton.
pub(crate) fn placeholder(name: Option<&str>, shape: &Shape) -> Result<String, String> {
    match &shape.constraint {
        None => Ok(format!("‹{}›", name.unwrap_or("text"))),
        Some(constraint) => shortest(constraint),
    }
}

/// A shortest text of a constraint: letters and digits where it leaves the choice.
fn shortest(constraint: &Constraint) -> Result<String, String> {
    const END: u32 = 256;
    let bytes = (0..=u8::MAX)
        .map(|byte| Some([byte].into()))
        .chain([None])
        .collect();
    let vocabulary = Arc::new(Vocabulary::new(bytes, vec![END]));
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    let words = |error: lmrun_grammar::GrammarError| error.to_string();
    let mut matcher = Matcher::new(constraint.clone(), vocabulary).map_err(words)?;
    let mut text = Vec::new();
    while !matcher.is_complete() && text.len() < MAX_BYTES {
        let n_left = matcher.min_tokens_to_accept();
        matcher.mask_toward_end(&mut mask, n_left).map_err(words)?;
        let bytes = || mask.iter().filter_map(|token| u8::try_from(token).ok());
        let plain = bytes().find(u8::is_ascii_alphanumeric);
        let Some(byte) = plain.or_else(|| bytes().next()) else {
            break;
        };
        matcher.accept(byte.into()).map_err(words)?;
        text.push(byte);
    }
    String::from_utf8(text).map_err(|_| "the shortest text is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
