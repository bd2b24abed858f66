//! Tokens listed by the groups of their characters: what one run ([`crate::runs`]) tells of them, without a walk.

use std::ops::Range;

use foldhash::HashMap;

use crate::TokenId;
use crate::runs::{Groups, Run};

/// The tokens of a trie, those of the same groups side by side.
#[derive(Debug, Default)]
pub(super) struct Listed {
    lists: Vec<List>,
    /// Of each list those with fewer characters first; behind the last stands one more, where all text ends.
    /// [n_tokens + 1]
    tokens: Vec<Token>,
    /// The bytes of each token, one after the other.
    text: Vec<u8>,
}

/// Tokens by the groups of their characters: how many they have, and the bytes.
pub(super) type ByGroups<'t> = HashMap<Groups, Vec<(u8, TokenId, &'t [u8])>>;

/// Tokens that consist of the same groups of characters; never none.
#[derive(Debug)]
struct List {
    groups: Groups,
    /// Their places in [`Listed::tokens`].
    places: Range<usize>,
    /// The fewest and most characters of one.
    fewest: u8,
    most: u8,
}

#[derive(Debug)]
struct Token {
    token: TokenId,
    /// Where its bytes begin.
    text: u32,
    n_characters: u8,
}

impl Listed {
    pub(super) fn new(by_groups: ByGroups<'_>) -> Self {
        let mut by_groups: Vec<_> = by_groups.into_iter().collect();
        by_groups.sort_unstable_by_key(|list| list.0);
        let mut listed = Self::default();
        for (groups, mut tokens) in by_groups {
            tokens.sort_unstable();
            let n_before = listed.tokens.len();
            for &(n_characters, token, bytes) in &tokens {
                listed.push(n_characters, token);
                listed.text.extend_from_slice(bytes);
            }
            listed.lists.push(List {
                groups,
                places: n_before..listed.tokens.len(),
                fewest: tokens.first().map_or(0, |token| token.0),
                most: tokens.last().map_or(0, |token| token.0),
            });
        }
        listed.push(0, 0);
        listed
    }

    fn push(&mut self, n_characters: u8, token: TokenId) {
        let text = self.text.len() as u32;
        self.tokens.push(Token {
            token,
            text,
            n_characters,
        });
    }

    /// Where the tokens of a list end that have at most `n` characters.
    fn at_most(&self, list: &List, n: u8) -> usize {
        match n {
            n if n >= list.most => list.places.end,
            n if n < list.fewest => list.places.start,
            n => {
                let tokens = &self.tokens[list.places.clone()];
                let n_short = tokens.partition_point(|token| token.n_characters <= n);
                list.places.start + n_short
            }
        }
    }

    /// Where the tokens of a list end that a run takes whole.
    fn end_of_taken(&self, list: &List, run: Run) -> usize {
        match run.takes(list.groups, 0) {
            true => self.at_most(list, run.n_characters),
            false => list.places.start,
        }
    }

    /// Of each list, the tokens of which a run does not tell whether they go on.
    fn untold(&self, run: Run) -> impl Iterator<Item = Range<usize>> {
        self.lists
            .iter()
            .map(move |list| match run.is_open(list.groups) {
                true => list.places.clone(),
                false => {
                    let start = self.at_most(list, run.n_characters);
                    start..self.at_most(list, run.most).max(start)
                }
            })
    }

    /// How many tokens a run does not tell of.
    pub(super) fn n_untold(&self, run: Run) -> usize {
        self.untold(run).map(|places| places.len()).sum()
    }

    /// Calls `found` for each token that a run does not tell of, with its bytes.
    pub(super) fn each_untold<E>(
        &self,
        run: Run,
        mut found: impl FnMut(TokenId, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for place in self.untold(run).flatten() {
            let [token, next] = [&self.tokens[place], &self.tokens[place + 1]];
            found(
                token.token,
                &self.text[token.text as usize..next.text as usize],
            )?;
        }
        Ok(())
    }

    /// How many tokens a run takes whole.
    pub(super) fn n_taken(&self, run: Run) -> usize {
        let n_taken = |list: &List| self.end_of_taken(list, run) - list.places.start;
        self.lists.iter().map(n_taken).sum()
    }

    /// The tokens that a run takes whole.
    pub(super) fn taken(&self, run: Run) -> impl Iterator<Item = TokenId> {
        let taken = move |list: &List| list.places.start..self.end_of_taken(list, run);
        self.tokens_at(self.lists.iter().map(taken))
    }

    /// The others.
    pub(super) fn not_taken(&self, run: Run) -> impl Iterator<Item = TokenId> {
        let others = move |list: &List| self.end_of_taken(list, run)..list.places.end;
        self.tokens_at(self.lists.iter().map(others))
    }

    fn tokens_at(
        &self,
        places: impl Iterator<Item = Range<usize>>,
    ) -> impl Iterator<Item = TokenId> {
        let tokens = places.flat_map(|places| &self.tokens[places]);
        tokens.map(|token| token.token)
    }
}
