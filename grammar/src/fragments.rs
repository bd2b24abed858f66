//! Which tokens hold a text, found by its three bytes that the fewest hold.

use crate::TokenId;

/// Bytes of a fragment.
pub(crate) const N_BYTES: usize = 3;

/// Lists of tokens: fragments that share one are told apart by the tokens themselves.
const N_LISTS: usize = 1 << 15;

/// Tokens by the fragments that they hold.
#[derive(Debug)]
pub(crate) struct Fragments {
    /// Where each list begins, and where the last ends. [n_lists + 1]
    starts: Vec<u32>,
    tokens: Vec<TokenId>,
}

impl Fragments {
    pub(crate) fn new(tokens: &[(&[u8], TokenId)]) -> Self {
        let mut starts = vec![0_u32; N_LISTS + 1];
        let each = || {
            tokens
                .iter()
                .flat_map(|&(bytes, token)| lists(bytes).map(move |list| (list, token)))
        };
        each().for_each(|(list, _)| starts[list + 1] += 1);
        for list in 0..N_LISTS {
            starts[list + 1] += starts[list];
        }
        let mut ends = starts.clone();
        let mut placed = vec![0; starts[N_LISTS] as usize];
        for (list, token) in each() {
            placed[ends[list] as usize] = token;
            ends[list] += 1;
        }
        Self {
            starts,
            tokens: placed,
        }
    }

    /// Tokens that may hold a text of [`N_BYTES`] at least, perhaps some of them more than once.
    pub(crate) fn candidates(&self, text: &[u8]) -> &[TokenId] {
        let list =
            |list: usize| &self.tokens[self.starts[list] as usize..self.starts[list + 1] as usize];
        let shortest = lists(text).map(list).min_by_key(|tokens| tokens.len());
        shortest.unwrap_or(&self.tokens)
    }
}

/// The lists of the fragments of a text.
fn lists(text: &[u8]) -> impl Iterator<Item = usize> {
    text.windows(N_BYTES).map(|fragment| {
        let number = fragment
            .iter()
            .fold(0, |number, &byte| number << 8 | u32::from(byte));
        // Multiplicative hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4.
        (number.wrapping_mul(0x9E37_79B1) >> 17) as usize
    })
}
