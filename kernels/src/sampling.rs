//! A row of logits to one token: the definition that every device keeps to.
//!
//! The order is that of vLLM and Hugging Face: mask, temperature, top-k, top-p, min-p; penalties and bias, an
//! [`Adjustment`] a token, come before. A *candidate* is an allowed token whose logit is above negative infinity; its
//! *score* is the logit over the temperature, and its *weight* e to the score's distance below the greatest. Candidates are
//! cut best first, the lower id first among equal scores, and one is drawn in the order of ids.
//!
//! Weights are whole numbers of 2^-40, made by f32 operations that IEEE 754 fixes to the bit, none of them fused. Sums of
//! whole numbers do not depend on their order, so that a GPU whose threads add in parallel cuts and draws the very tokens
//! that are drawn here.

#[cfg(test)]
mod tests;

use crate::cpu::run_on;
use crate::simd::{Kernel, Simd};
use crate::{Tier, row_max};

/// The weight of the best candidate, as a power of two.
const WEIGHT_BITS: u32 = 40;
/// Candidates among which top-p looks before it sorts all.
const NUCLEUS_GUESS: usize = 512;

/// How a token is drawn. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k best tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest best tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this share as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        }
    }
}

impl Sampler {
    /// Whether the token is the best one, whatever is drawn.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }

    /// How far below the greatest score a kept one may be: 0 or less.
    pub(crate) fn least_below(&self) -> f32 {
        if self.min_p > 0.0 {
            self.min_p.ln()
        } else {
            f32::NEG_INFINITY
        }
    }
}

/// Which tokens may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a> {
    /// Ids at or above this are not tokens.
    pub n_tokens: usize,
    /// Bit `t % 64` of word `t / 64` allows token `t`; tokens beyond the last word are not allowed. None allows all.
    pub mask: Option<&'a [u64]>,
    /// Not these.
    pub banned: &'a [u32],
}

impl Allowed<'_> {
    /// Whether a token may be chosen.
    #[must_use]
    pub fn holds(&self, token: u32) -> bool {
        (token as usize) < self.n_tokens
            && self.word(token as usize / 64) >> (token % 64) & 1 == 1
            && !self.banned.contains(&token)
    }

    /// A word of the mask.
    fn word(&self, idx: usize) -> u64 {
        self.mask
            .map_or(u64::MAX, |mask| mask.get(idx).copied().unwrap_or(0))
    }

    /// Calls `visit` for each allowed token of `n_logits` in ascending order.
    fn for_each(&self, n_logits: usize, mut visit: impl FnMut(u32)) {
        let limit = n_logits.min(self.n_tokens) as u32;
        let mut visit = |token| {
            if token < limit && !self.banned.contains(&token) {
                visit(token);
            }
        };
        let Some(mask) = self.mask else {
            return (0..limit).for_each(visit);
        };
        for (first, &word) in (0..limit).step_by(64).zip(mask) {
            let mut rest = word;
            while rest != 0 {
                visit(first + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
    }
}

/// What penalties and bias make of a token's logit. A row has at most one for a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adjustment {
    /// The token.
    pub token: u32,
    /// Divides a positive logit, multiplies any other; 1 is none.
    pub repetition: f32,
    /// Subtracted then.
    pub less: f32,
    /// Added at last.
    pub more: f32,
}

impl Adjustment {
    /// The logit that takes the place of `logit`.
    #[must_use]
    pub fn of(&self, logit: f32) -> f32 {
        let repeated = if logit > 0.0 {
            logit / self.repetition
        } else {
            logit * self.repetition
        };
        repeated - self.less + self.more
    }

    /// Adjusts its token's logit, if the row has it.
    pub fn apply(&self, row: &mut [f32]) {
        if let Some(logit) = row.get_mut(self.token as usize) {
            *logit = self.of(*logit);
        }
    }
}

/// One row's choice.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The row of logits.
    pub row_idx: usize,
    /// Penalties and bias, one a token, applied before anything else.
    pub adjustments: &'a [Adjustment],
    /// The tokens among which to choose.
    pub allowed: Allowed<'a>,
    /// How.
    pub sampler: Sampler,
    /// In [0, 1).
    pub random: f64,
    /// Whether the log-probability is wanted, which takes reading the row once more.
    pub wants_logprob: bool,
}

/// A token that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// What [`choose`] takes; None if nothing is allowed.
    pub token: Option<u32>,
    /// The natural logarithm of its probability before adjustments, mask and temperature; not a number unless it was wanted.
    pub logprob: f32,
}

impl Draw<'_> {
    /// The choice of a row, which is adjusted in place and left as it was.
    #[must_use]
    pub fn of(&self, row: &mut [f32]) -> Drawn {
        let log_sum = self.wants_logprob.then(|| crate::log_sum_exp(row));
        let place = |adjustment: &Adjustment| adjustment.token as usize;
        let raw: Vec<f32> = self
            .adjustments
            .iter()
            .map(|adjustment| row.get(place(adjustment)).copied().unwrap_or_default())
            .collect();
        for adjustment in self.adjustments {
            adjustment.apply(row);
        }
        let token = choose(row, self.sampler, self.allowed, self.random);
        for (adjustment, logit) in self.adjustments.iter().zip(raw) {
            if let Some(place) = row.get_mut(place(adjustment)) {
                *place = logit;
            }
        }
        let logit = token.map(|token| row[token as usize]);
        let logprob = log_sum.zip(logit);
        Drawn {
            token,
            logprob: logprob.map_or(f32::NAN, |(log_sum, logit)| self::logprob(logit, log_sum)),
        }
    }
}

/// Chooses among the allowed tokens with `random` in [0, 1). Logits that are not numbers count as negative infinity;
/// where no allowed logit is finite, the lowest allowed id is taken. None only if nothing is allowed.
#[must_use]
pub fn choose(row: &[f32], sampler: Sampler, allowed: Allowed<'_>, random: f64) -> Option<u32> {
    if sampler.is_greedy() {
        return greedy(row, allowed);
    }
    let mut blocks = blocks(row, sampler.temperature, allowed);
    let max = blocks.iter().map(Block::max).fold(NO_SCORE, f32::max);
    if max == NO_SCORE {
        return greedy(row, allowed);
    }
    keep_top_k(&mut blocks, sampler.top_k);
    keep_top_p(&mut blocks, max, sampler.top_p);
    keep_from(&mut blocks, max + sampler.least_below());
    draw(&blocks, max, random)
}

/// The ids of the `n` highest logits, best first, the lower id first among equals; what is not a number comes last.
#[must_use]
pub fn highest(row: &[f32], n: usize) -> Vec<u32> {
    if n == 0 {
        return Vec::new();
    }
    let mut all: Vec<(f32, u32)> = row.iter().copied().map(number_or_least).zip(0..).collect();
    if n < all.len() {
        all.select_nth_unstable_by(n - 1, by_score);
        all.truncate(n);
    }
    all.sort_unstable_by(by_score);
    all.into_iter().map(|(_, token)| token).collect()
}

/// The log-probability of a token with this logit, given the row's [`crate::log_sum_exp`]. Never above 0, never NaN;
/// negative infinity for what is not a number or has no weight, even in a row that has nothing else.
#[must_use]
pub fn logprob(logit: f32, log_sum: f32) -> f32 {
    match number_or_least(logit).min(f32::MAX) {
        f32::NEG_INFINITY => f32::NEG_INFINITY,
        logit => (logit - log_sum).min(0.0),
    }
}

/// The highest logit's token, the lowest id among equals.
fn greedy(row: &[f32], allowed: Allowed<'_>) -> Option<u32> {
    if allowed.mask.is_none() {
        return highest_but(&row[..row.len().min(allowed.n_tokens)], allowed.banned);
    }
    let mut best: Option<(f32, u32)> = None;
    allowed.for_each(row.len(), |token| {
        let logit = number_or_least(row[token as usize]);
        if best.is_none_or(|(highest, _)| logit > highest) {
            best = Some((logit, token));
        }
    });
    best.map(|(_, token)| token)
}

/// The highest logit's token that is not banned, the lowest id among equals; the first token if no logit is above
/// negative infinity.
fn highest_but(row: &[f32], banned: &[u32]) -> Option<u32> {
    /// Logits whose maximum is taken at once: most stretches are passed over without looking at each.
    const STRETCH: usize = 1024;
    let mut ends: Vec<usize> = banned.iter().map(|&token| token as usize).collect();
    ends.retain(|&token| token < row.len());
    ends.sort_unstable();
    ends.push(row.len());
    let mut best: Option<(f32, usize, &[f32])> = None;
    let mut start = 0;
    for end in ends {
        for (i, stretch) in row[start.min(end)..end].chunks(STRETCH).enumerate() {
            let max = row_max(stretch);
            if best.is_none_or(|(highest, ..)| max > highest) {
                best = Some((max, start + i * STRETCH, stretch));
            }
        }
        start = end + 1;
    }
    let (max, first, stretch) = best?;
    let is_max = |&logit: &f32| number_or_least(logit) == max;
    let offset = stretch.iter().position(is_max).unwrap_or(0);
    Some((first + offset) as u32)
}

fn number_or_least(logit: f32) -> f32 {
    if logit.is_nan() {
        f32::NEG_INFINITY
    } else {
        logit
    }
}

/// Tokens that are scored together: those of one word of a mask.
const BLOCK: usize = 64;
/// The score of what is no candidate.
const NO_SCORE: f32 = f32::NEG_INFINITY;

/// The scores of the tokens from `first` on.
struct Block {
    first: u32,
    scores: [f32; BLOCK],
}

impl Block {
    fn max(&self) -> f32 {
        row_max(&self.scores)
    }

    fn entries(&self) -> impl Iterator<Item = (f32, u32)> {
        self.scores.iter().copied().zip(self.first..)
    }
}

/// The scores of a row, ascending, without blocks in which nothing is allowed. Infinity counts as the greatest number.
fn blocks(row: &[f32], temperature: f32, allowed: Allowed<'_>) -> Vec<Block> {
    let row = &row[..row.len().min(allowed.n_tokens)];
    let n_blocks = row.len().div_ceil(BLOCK);
    let kept = (0..n_blocks).filter(|&idx| allowed.word(idx) != 0);
    let mut blocks = Vec::with_capacity(kept.clone().count());
    for idx in kept {
        let mut scores = [NO_SCORE; BLOCK];
        for (score, &logit) in scores.iter_mut().zip(&row[idx * BLOCK..]) {
            let of_logit = (logit / temperature).clamp(f32::MIN, f32::MAX);
            *score = if logit > NO_SCORE { of_logit } else { NO_SCORE };
        }
        let mut excluded = !allowed.word(idx);
        while excluded != 0 {
            scores[excluded.trailing_zeros() as usize] = NO_SCORE;
            excluded &= excluded - 1;
        }
        let first = (idx * BLOCK) as u32;
        blocks.push(Block { first, scores });
    }
    for &token in allowed.banned {
        let first = token - token % BLOCK as u32;
        if let Ok(idx) = blocks.binary_search_by_key(&first, |block| block.first) {
            blocks[idx].scores[(token - first) as usize] = NO_SCORE;
        }
    }
    blocks
}

/// Best first; the lower id first among equals, of which zero and its negative are two.
fn by_score(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    let order = b.0.partial_cmp(&a.0).expect("scores are numbers");
    order.then(a.1.cmp(&b.1))
}

/// The `n` best, in any order; all if there are fewer.
fn best(blocks: &[Block], n: usize) -> Vec<(f32, u32)> {
    // So many blocks have a score of at least this; what is below it is not among the best.
    let mut maxima: Vec<f32> = blocks.iter().map(Block::max).collect();
    let least = if n <= maxima.len() {
        let (_, nth, _) = maxima.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
        *nth
    } else {
        NO_SCORE
    };
    let entries = blocks.iter().flat_map(Block::entries);
    let mut best: Vec<(f32, u32)> = entries.filter(|&(score, _)| score >= least).collect();
    if n < best.len() {
        best.select_nth_unstable_by(n - 1, by_score);
        best.truncate(n);
    }
    best
}

/// Leaves only `kept`.
fn keep(blocks: &mut [Block], kept: &[(f32, u32)]) {
    for block in blocks.iter_mut() {
        block.scores.fill(NO_SCORE);
    }
    for &(score, token) in kept {
        let idx = blocks.partition_point(|block| block.first <= token) - 1;
        blocks[idx].scores[token as usize % BLOCK] = score;
    }
}

fn keep_top_k(blocks: &mut [Block], top_k: usize) {
    if top_k > 0 && top_k < blocks.len() * BLOCK {
        let best = best(blocks, top_k);
        keep(blocks, &best);
    }
}

fn keep_top_p(blocks: &mut [Block], max: f32, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let total: u64 = weights(blocks, max).iter().sum();
    let goal = ((f64::from(top_p) * total as f64).ceil() as u64).clamp(1, total);
    for n in [NUCLEUS_GUESS, blocks.len() * BLOCK] {
        let mut best = best(blocks, n);
        best.sort_unstable_by(by_score);
        let mut reached = 0;
        let last = best.iter().position(|&(score, _)| {
            reached += weight(score - max);
            reached >= goal
        });
        if let Some(last) = last {
            return keep(blocks, &best[..=last]);
        }
    }
}

/// Leaves only scores of at least `least`.
fn keep_from(blocks: &mut [Block], least: f32) {
    if least > NO_SCORE {
        for score in blocks.iter_mut().flat_map(|block| &mut block.scores) {
            *score = if *score >= least { *score } else { NO_SCORE };
        }
    }
}

/// The sum of each block's weights.
fn weights(blocks: &[Block], max: f32) -> Vec<u64> {
    run_on(Tier::Avx512, Weights { blocks, max })
}

struct Weights<'a> {
    blocks: &'a [Block],
    max: f32,
}

impl Kernel for Weights<'_> {
    type Output = Vec<u64>;

    /// Plain loops, for a sum of whole numbers has one value: the compiler makes vectors of them.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<u64> {
        let mut sums = vec![0; self.blocks.len()];
        for (sum, block) in sums.iter_mut().zip(self.blocks) {
            for score in block.scores {
                *sum += weight(score - self.max);
            }
        }
        sums
    }
}

/// `2^40 * e^below` for a number that is not above 0; below -28 it is 0. Off by less than 3e-7 of itself, and by 1.
///
/// sampling.cu has the same operations in the same order.
#[inline(always)]
pub(crate) fn weight(below: f32) -> u64 {
    /// Added and taken away again, it rounds to a whole number: 1.5 * 2^23.
    const ROUNDER: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few enough bits that its small multiples are exact (Cody and Waite 1980).
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Of the Taylor series of e^x from the seventh power down; the remainder is below 6e-9 where |x| is half of ln 2.
    const SERIES: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let is_something = below >= -28.0;
    let below = if is_something { below } else { -28.0 };
    let shifted = below * std::f32::consts::LOG2_E + ROUNDER;
    let turns = shifted - ROUNDER;
    let rest = (below - turns * LN_2[0]) - turns * LN_2[1];
    let power = SERIES.iter().fold(0.0, |sum, term| sum * rest + term);
    // The power is between 0.5 and 2: times 2^24 it is the whole number of its bits, doubled from 1 on. Read off them, and
    // the turns off theirs, both can be had of many at once.
    let bits = power.to_bits();
    let mantissa = (bits & 0x7f_ffff | 0x80_0000) << ((bits >> 23) - 126);
    let n_halvings = ROUNDER.to_bits() - shifted.to_bits();
    let weight = u64::from(mantissa) << (WEIGHT_BITS - 24) >> n_halvings;
    if is_something { weight } else { 0 }
}

/// The natural logarithm of a sum of weights, each 1 for the best.
pub(crate) fn log_weight(total: u64) -> f32 {
    (total as f64 / (1u64 << WEIGHT_BITS) as f64).ln() as f32
}

/// The token at which the running sum of weights, in the order of ids, passes `random` of their total.
fn draw(blocks: &[Block], max: f32, random: f64) -> Option<u32> {
    let weights = weights(blocks, max);
    let total: u64 = weights.iter().sum();
    let goal = ((random * total as f64) as u64).min(total - 1);
    let mut reached = 0;
    let mut passes = |weight: u64| {
        let is_passed = reached + weight > goal;
        reached += if is_passed { 0 } else { weight };
        is_passed
    };
    let idx = weights.iter().position(|&weight| passes(weight))?;
    let mut entries = blocks[idx].entries();
    entries
        .find(|&(score, _)| passes(weight(score - max)))
        .map(|(_, token)| token)
}
