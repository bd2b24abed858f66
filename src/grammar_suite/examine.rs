//! What one constraint costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lmrun_grammar::{GrammarError, JsonOptions, Matcher, TokenMask, Vocabulary};

use super::{Random, Refusal, Source, walk};

/// A constraint that is supported.
#[derive(Debug, Clone, PartialEq)]
pub struct Examination {
    /// Time to compile it.
    pub compile: Duration,
    /// Time of the first mask, making the matcher included.
    pub first_mask: Duration,
    /// Tokens of the first mask.
    pub n_first: usize,
    /// Tokens within which an output can be completed.
    pub min_tokens: usize,
    /// Bytes of a shortest output.
    pub min_bytes: usize,
    /// An output of few tokens; none if it has a great many.
    pub short: Option<String>,
}

/// Bytes of an output up to which it is spelled out.
const MAX_SHORT_BYTES: usize = 4096;

/// Compiles a constraint and finds its first mask.
///
/// # Errors
/// If it is refused, or a limit is passed on the way.
pub fn examine(
    source: &Source,
    options: &JsonOptions,
    vocabulary: &Arc<Vocabulary>,
) -> Result<Examination, Refusal> {
    let started = Instant::now();
    let constraint = source.compile(options)?;
    let compile = started.elapsed();

    let started = Instant::now();
    let mut matcher = Matcher::new(constraint, Arc::clone(vocabulary))?;
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    matcher.mask(&mut mask)?;
    let first_mask = started.elapsed();

    let min_bytes = matcher.min_bytes_to_accept();
    Ok(Examination {
        compile,
        first_mask,
        n_first: mask.n_allowed(),
        min_tokens: matcher.min_tokens_to_accept(),
        min_bytes,
        short: (min_bytes <= MAX_SHORT_BYTES)
            .then(|| short(&mut matcher, vocabulary))
            .transpose()?,
    })
}

fn short(matcher: &mut Matcher, vocabulary: &Vocabulary) -> Result<String, GrammarError> {
    let bytes = walk(matcher, vocabulary, 0, None, &mut Random::new(0))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
