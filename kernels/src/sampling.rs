//! A row of logits to one token: the definition that every device keeps to, as a scalar loop.
//!
//! The order is that of vLLM and Hugging Face: mask, temperature, top-k, top-p, min-p; penalties and bias, an
//! [`Adjustment`] a token, come before. A *candidate* is an allowed token whose logit is above negative infinity; its
//! *score* is the logit over the temperature, and its *weight* e to the score's distance below the greatest. Candidates are
//! kept best first, the lower id first among equal scores, and one is drawn in the order of ids.
//!
//! Weights are whole numbers of 2^-40, made by f32 operations that IEEE 754 fixes to the bit, none of them fused. Sums of
//! whole numbers do not depend on their order, so that a GPU whose threads add in parallel cuts and draws the very tokens
//! that this loop does.

#[cfg(test)]
mod tests;

use crate::row_max;

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
        let is_allowed = |mask: &[u64]| {
            let word = mask.get(token as usize / 64);
            word.is_some_and(|word| word >> (token % 64) & 1 == 1)
        };
        (token as usize) < self.n_tokens
            && self.mask.is_none_or(is_allowed)
            && !self.banned.contains(&token)
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
    let mut candidates = candidates(row, sampler.temperature, allowed);
    if candidates.is_empty() {
        return greedy(row, allowed);
    }
    keep_top_k(&mut candidates, sampler.top_k);
    keep_top_p(&mut candidates, sampler.top_p);
    let max = max_score(&candidates);
    let least = max + sampler.least_below();
    candidates.retain(|&(score, _)| score >= least);
    draw(&mut candidates, max, random)
}

/// The ids of the `n` highest logits, best first, the lower id first among equals; what is not a number comes last.
#[must_use]
pub fn highest(row: &[f32], n: usize) -> Vec<u32> {
    if n == 0 {
        return Vec::new();
    }
    let scores = row.iter().map(|&logit| number_or_least(logit));
    let mut all: Vec<(f32, u32)> = scores.zip(0..).collect();
    keep_top_k(&mut all, n);
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

/// Candidates with their scores; infinity counts as the greatest number.
fn candidates(row: &[f32], temperature: f32, allowed: Allowed<'_>) -> Vec<(f32, u32)> {
    let mut candidates = Vec::new();
    allowed.for_each(row.len(), |token| {
        let logit = row[token as usize];
        if logit > f32::NEG_INFINITY {
            let score = (logit / temperature).clamp(f32::MIN, f32::MAX);
            candidates.push((score, token));
        }
    });
    candidates
}

/// Best first; the lower id first among equals, of which zero and its negative are two.
fn by_score(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    let order = b.0.partial_cmp(&a.0).expect("scores are numbers");
    order.then(a.1.cmp(&b.1))
}

fn keep_top_k(candidates: &mut Vec<(f32, u32)>, top_k: usize) {
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_score);
        candidates.truncate(top_k);
    }
}

fn keep_top_p(candidates: &mut Vec<(f32, u32)>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let max = max_score(candidates);
    let total = total_weight(candidates, max);
    let goal = ((f64::from(top_p) * total as f64).ceil() as u64).clamp(1, total);
    let n_guessed = NUCLEUS_GUESS.min(candidates.len());
    if n_guessed < candidates.len() {
        candidates.select_nth_unstable_by(n_guessed, by_score);
    }
    candidates[..n_guessed].sort_unstable_by(by_score);
    if total_weight(&candidates[..n_guessed], max) < goal {
        candidates.sort_unstable_by(by_score);
    }
    let mut reached = 0;
    let n_kept = candidates.iter().position(|&(score, _)| {
        reached += weight(score - max);
        reached >= goal
    });
    candidates.truncate(n_kept.map_or(candidates.len(), |last| last + 1));
}

fn max_score(candidates: &[(f32, u32)]) -> f32 {
    candidates
        .iter()
        .fold(f32::MIN, |max, &(score, _)| max.max(score))
}

fn total_weight(candidates: &[(f32, u32)], max: f32) -> u64 {
    candidates
        .iter()
        .map(|&(score, _)| weight(score - max))
        .sum()
}

/// `2^40 * e^below` for a number that is not above 0; below -28 it is 0. Off by less than 3e-7 of itself, and by 1.
///
/// sampling.cu has the same operations in the same order.
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
    if below.is_nan() || below < -28.0 {
        return 0;
    }
    let turns = (below * std::f32::consts::LOG2_E + ROUNDER) - ROUNDER;
    let rest = (below - turns * LN_2[0]) - turns * LN_2[1];
    let power = SERIES.iter().fold(0.0, |sum, term| sum * rest + term);
    // The power is above 0.7, so that this is a whole number.
    let mantissa = (power * (1 << 24) as f32) as u64;
    mantissa << (WEIGHT_BITS - 24) >> -turns as u32
}

/// The natural logarithm of a sum of weights, each 1 for the best.
pub(crate) fn log_weight(total: u64) -> f32 {
    (total as f64 / (1u64 << WEIGHT_BITS) as f64).ln() as f32
}

/// The token at which the running sum of weights, in the order of ids, passes `random` of their total.
fn draw(candidates: &mut [(f32, u32)], max: f32, random: f64) -> Option<u32> {
    candidates.sort_unstable_by_key(|&(_, token)| token);
    let total = total_weight(candidates, max);
    let goal = ((random * total as f64) as u64).min(total - 1);
    let mut reached = 0;
    let chosen = candidates.iter().find(|&&(score, _)| {
        reached += weight(score - max);
        reached > goal
    });
    chosen.map(|&(_, token)| token)
}
