//! Random members of a constraint: a walk over tokens, uniform over the legal ones, then steered to its end.

use lmrun_grammar::{GrammarError, Matcher, TokenMask, Vocabulary};

/// Tokens drawn freely; after them a walk takes a shortest way to its end.
pub const FREE_TOKENS: usize = 60;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`, which is above 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % n as u64) as usize
    }
}

/// Walks from where the matcher stands to a complete output, within `max_tokens` if given, and returns the bytes. The
/// first `n_free` tokens are drawn from all that are legal, an end token among them.
///
/// # Errors
/// `Budget` if `max_tokens` is too few for any output, and as [`Matcher::mask_toward_end`].
pub fn walk(
    matcher: &mut Matcher,
    vocabulary: &Vocabulary,
    n_free: usize,
    max_tokens: Option<usize>,
    random: &mut Random,
) -> Result<Vec<u8>, GrammarError> {
    let mut mask = TokenMask::new(vocabulary.n_tokens());
    let mut output = Vec::new();
    // Tokens that the way to the end may still take, once it is steered there.
    let mut n_to_end = None;
    for n_taken in 0.. {
        let n_left = max_tokens.map(|max_tokens| max_tokens - n_taken);
        let is_free = n_taken < n_free;
        if matcher.is_complete() && (!is_free || n_left == Some(0)) {
            break;
        }
        let budget = match is_free {
            true => n_left,
            // It shrinks by a token at each step; it was within `n_left` at the step before.
            false => {
                let n = n_to_end.unwrap_or_else(|| matcher.min_tokens_to_accept());
                n_to_end = Some(n.saturating_sub(1));
                Some(n_left.unwrap_or(usize::MAX).min(n))
            }
        };
        match budget {
            None => matcher.mask(&mut mask)?,
            Some(budget) => matcher.mask_toward_end(&mut mask, budget)?,
        }
        let chosen = random.below(mask.n_allowed());
        let token = mask.iter().nth(chosen).expect("an index below the count");
        let Some(bytes) = vocabulary.bytes(token) else {
            break;
        };
        output.extend_from_slice(bytes);
        matcher.accept(token)?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests;
