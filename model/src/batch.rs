//! What the decoder takes and gives: ragged batches of spans in, rows of logits out.

use lmrun_kernels::{Draw, Drawn, KvFormat};

use crate::{Config, ModelError, Quantisation, TokenId};

/// How activations are held while weights are applied to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 activations and scalar arithmetic: slow, the yardstick of every other.
    Reference,
    /// int8 activations with an f32 scale a block, vectorised where the machine can.
    #[default]
    Quantised,
}

/// How a decoder is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderOptions {
    /// The arithmetic.
    pub precision: Precision,
    /// Threads that compute, the caller's own among them; at least 1.
    pub n_threads: usize,
    /// Tokens a page holds; at least 1.
    pub page_size: usize,
    /// Pages of the pool; at least 1. Every page holds keys and values of all layers.
    pub n_pages: usize,
    /// How keys and values are stored. The reference precision has f32 alone.
    pub kv_format: KvFormat,
    /// What matrices become while they are loaded; `None` leaves them as they are. Only plain ones are quantised.
    pub quantisation: Option<Quantisation>,
}

impl Default for DecoderOptions {
    /// One thread and one page of sixteen tokens.
    fn default() -> Self {
        Self {
            precision: Precision::default(),
            n_threads: 1,
            page_size: 16,
            n_pages: 1,
            kv_format: KvFormat::default(),
            quantisation: None,
        }
    }
}

/// Which positions of a span give a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// None: only keys and values are wanted.
    None,
    /// The last position.
    Last,
    /// Every position.
    All,
    /// The positions from this offset within the span on.
    From(usize),
}

impl Outputs {
    /// The offsets of a span of `n_tokens` that give a row.
    #[must_use]
    pub fn offsets(self, n_tokens: usize) -> std::ops::Range<usize> {
        match self {
            Outputs::None => n_tokens..n_tokens,
            Outputs::Last => n_tokens.saturating_sub(1)..n_tokens,
            Outputs::All => 0..n_tokens,
            Outputs::From(first) => first.min(n_tokens)..n_tokens,
        }
    }
}

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The tokens to run, at positions `start..start + tokens.len()`.
    pub tokens: &'a [TokenId],
    /// The position of the first token; positions `0..start` are in `pages` already.
    pub start: usize,
    /// The sequence's block table: position `p` lies in page `pages[p / page_size]`, at
    /// `p % page_size`. Long enough for `start + tokens.len()` positions.
    pub pages: &'a [u32],
    /// Which positions give logits.
    pub outputs: Outputs,
}

/// Spans that run in one step. No two spans may write the same position of the same page; a span may
/// read what another span of the same batch writes only if they are not the same step's positions.
#[derive(Debug, Clone, Default)]
pub struct Batch<'a> {
    /// The spans, in the order in which their logits come back.
    pub spans: Vec<Span<'a>>,
}

/// Which logits of a row are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick<'a> {
    /// All of them.
    All,
    /// All of them, left where they were computed: none comes back, and [`Decoder::draw`] chooses among them.
    Held,
    /// Those of these tokens, which ascend. None at all costs nothing.
    Tokens(&'a [TokenId]),
}

/// Rows of logits, in span order and then in offset order.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    /// Where each row ends in `values`. `[n_rows]`
    ends: Vec<usize>,
}

impl Logits {
    /// Rows of `n_vocab` logits each, one after another in `values`.
    #[must_use]
    pub fn new(values: Vec<f32>, n_vocab: usize) -> Self {
        debug_assert!(n_vocab > 0 && values.len().is_multiple_of(n_vocab));
        let ends = (1..=values.len() / n_vocab).map(|n| n * n_vocab).collect();
        Self { values, ends }
    }

    /// Rows of any lengths.
    #[must_use]
    pub fn of_rows<'r>(rows: impl IntoIterator<Item = &'r [f32]>) -> Self {
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        for row in rows {
            values.extend_from_slice(row);
            ends.push(values.len());
        }
        Self { values, ends }
    }

    /// The number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.ends.len()
    }

    /// Row `row_idx`: `[n_vocab]`, or of the tokens that were picked; empty if it was held.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row_idx: usize) -> &[f32] {
        &self.values[self.range(row_idx)]
    }

    /// Row `row_idx`, to be masked or scaled in place.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row_mut(&mut self, row_idx: usize) -> &mut [f32] {
        let range = self.range(row_idx);
        &mut self.values[range]
    }

    fn range(&self, row_idx: usize) -> std::ops::Range<usize> {
        let start = row_idx.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[row_idx]
    }
}

/// A decoder with its weights and its pool of key and value pages.
///
/// A row of logits depends, bit for bit, only on the tokens before it: not on the other spans of a
/// batch, nor on how a prompt is cut into spans, nor on the number of threads.
pub trait Decoder: Send {
    /// The checkpoint's configuration.
    fn config(&self) -> &Config;

    /// Tokens a page holds.
    fn page_size(&self) -> usize;

    /// Pages in the pool; their ids are `0..n_pages`.
    fn n_pages(&self) -> usize;

    /// Runs the spans, writes their keys and values into their pages, and returns the logits asked for.
    ///
    /// # Errors
    /// [`ModelError::Batch`] if a token is not in the vocabulary, a page does not exist or is missing,
    /// or a span runs past the context length. Nothing has been written then.
    fn forward(&mut self, batch: &Batch<'_>) -> Result<Logits, ModelError> {
        let n_rows = batch
            .spans
            .iter()
            .map(|span| span.outputs.offsets(span.tokens.len()).len());
        self.forward_picked(batch, &vec![Pick::All; n_rows.sum()])
    }

    /// Like [`Decoder::forward`], with only the logits that are picked of each row, one pick a row; their bits are the
    /// same. Few tokens cost little: the rest of the head is not read.
    ///
    /// # Errors
    /// As [`Decoder::forward`], and if picks and rows differ in number or a picked token is not in the vocabulary.
    fn forward_picked(
        &mut self,
        batch: &Batch<'_>,
        picks: &[Pick<'_>],
    ) -> Result<Logits, ModelError>;

    /// Chooses a token of each draw's row, one that the last forward pass held, as [`Draw::of`] defines it; a
    /// log-probability may differ by rounding. The rows stay as they are, and can be drawn from again.
    ///
    /// # Panics
    /// If two draws are of the same row, or a row was not held.
    fn draw(&mut self, draws: &[Draw<'_>]) -> Vec<Drawn>;

    /// Copies the keys and values of the first `n_tokens` positions of page `from` to page `to`.
    ///
    /// # Panics
    /// If a page does not exist or `n_tokens` is more than a page holds.
    fn copy_page(&mut self, from: u32, to: u32, n_tokens: usize);
}
