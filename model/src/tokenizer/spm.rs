//! SentencePiece's BPE: the pair of neighbours whose union scores highest is joined first.
//!
//! Source: Kudo and Richardson 2018; `bpe_model.cc` of sentencepiece. Among equal scores the leftmost
//! pair goes first. A character that is no piece becomes its bytes. Symbols that the vocabulary's maker defined are
//! found first, leftmost and longest, and joined with nothing.

use std::collections::{BinaryHeap, HashMap};

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

use crate::TokenId;

/// What stands for a space.
const SPACE: &str = "\u{2581}";

/// A vocabulary of scored pieces.
pub(crate) struct SentencePiece {
    pieces: HashMap<String, (TokenId, f32)>,
    /// The token of each byte, where a character is no piece.
    byte_tokens: Vec<TokenId>,
    symbols: Symbols,
    adds_space: bool,
}

/// User-defined symbols: text that is one token wherever it stands.
pub(crate) struct Symbols {
    finder: AhoCorasick,
    tokens: Vec<TokenId>,
}

impl Symbols {
    pub(crate) fn new(symbols: &[(&str, TokenId)]) -> Result<Self, BuildError> {
        let texts = symbols.iter().map(|(text, _)| text.replace(' ', SPACE));
        Ok(Self {
            finder: AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(texts)?,
            tokens: symbols.iter().map(|(_, token)| *token).collect(),
        })
    }
}

/// A run of characters within the text, linked to its neighbours.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbouring runs that may be joined.
#[derive(PartialEq)]
struct Join {
    score: f32,
    left: usize,
    right: usize,
    /// Where both end; it tells whether one has been joined with another since.
    start: usize,
    end: usize,
}

impl Eq for Join {}

impl Ord for Join {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    /// `byte_tokens` holds a token for each of the 256 bytes, in order.
    pub(crate) fn new(
        pieces: HashMap<String, (TokenId, f32)>,
        byte_tokens: Vec<TokenId>,
        symbols: Symbols,
        adds_space: bool,
    ) -> Self {
        debug_assert_eq!(byte_tokens.len(), 256);
        Self {
            pieces,
            byte_tokens,
            symbols,
            adds_space,
        }
    }

    /// Appends the tokens of `text`; `is_first` says that nothing, not even a special token, is before.
    pub(crate) fn encode(&self, text: &str, is_first: bool, tokens: &mut Vec<TokenId>) {
        let mut spaced = text.replace(' ', SPACE);
        if self.adds_space && is_first {
            spaced.insert_str(0, SPACE);
        }
        let mut end = 0;
        for found in self.symbols.finder.find_iter(&spaced) {
            self.encode_between(&spaced[end..found.start()], tokens);
            tokens.push(self.symbols.tokens[found.pattern().as_usize()]);
            end = found.end();
        }
        self.encode_between(&spaced[end..], tokens);
    }

    /// Appends the tokens of a text without symbols.
    fn encode_between(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let mut run_idx = Some(0);
        let runs = self.join(text);
        while let Some(run) = run_idx.and_then(|run_idx| runs.get(run_idx)) {
            let piece = &text[run.start..run.end];
            match self.pieces.get(piece) {
                Some((token, _)) => tokens.push(*token),
                None => tokens.extend(
                    piece
                        .bytes()
                        .map(|byte| self.byte_tokens[usize::from(byte)]),
                ),
            }
            run_idx = run.next;
        }
    }

    /// The runs that are left when nothing more can be joined.
    fn join(&self, text: &str) -> Vec<Run> {
        let n_chars = text.chars().count();
        let mut runs: Vec<Run> = text
            .char_indices()
            .enumerate()
            .map(|(idx, (start, c))| Run {
                start,
                end: start + c.len_utf8(),
                previous: idx.checked_sub(1),
                next: Some(idx + 1).filter(|next| *next < n_chars),
            })
            .collect();
        let mut joins = BinaryHeap::new();
        for left in 1..n_chars {
            joins.extend(self.candidate(text, &runs, left - 1, left));
        }
        while let Some(Join {
            left,
            right,
            start,
            end,
            ..
        }) = joins.pop()
        {
            let (is_left, is_right) = (runs[left].start == start, runs[right].end == end);
            let is_current = is_left && is_right && runs[left].next == Some(right);
            if !is_current || runs[left].end != runs[right].start {
                continue;
            }
            let next = runs[right].next;
            runs[left].end = runs[right].end;
            runs[left].next = next;
            // An empty run matches no join that was put up before.
            runs[right].start = runs[right].end;
            if let Some(next) = next {
                runs[next].previous = Some(left);
                joins.extend(self.candidate(text, &runs, left, next));
            }
            if let Some(previous) = runs[left].previous {
                joins.extend(self.candidate(text, &runs, previous, left));
            }
        }
        runs
    }

    fn candidate(&self, text: &str, runs: &[Run], left: usize, right: usize) -> Option<Join> {
        let (start, end) = (runs[left].start, runs[right].end);
        let (_, score) = self.pieces.get(&text[start..end])?;
        Some(Join {
            score: *score,
            left,
            right,
            start,
            end,
        })
    }
}
