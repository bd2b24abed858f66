//! Logits to one token.
//!
//! The order is that of vLLM and Hugging Face: penalties and bias, mask, temperature, top-k, top-p, min-p. The generator
//! is counter-based: a draw depends on the seed and the position alone, so a batch, a preemption or a neighbour cannot
//! change it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use lmrun_grammar::TokenMask;
pub(crate) use lmrun_kernels::log_sum_exp;
use lmrun_kernels::row_max;

use crate::{Sampling, TokenId};

/// Candidates among which top-p looks before it sorts the whole vocabulary.
const NUCLEUS_GUESS: usize = 512;

/// How often tokens are in a context, for the penalties.
#[derive(Debug, Default)]
pub(crate) struct TokenCounts {
    /// In prompt and output; empty where no penalty asks.
    in_context: HashMap<TokenId, u32>,
    /// In the output alone.
    in_output: HashMap<TokenId, u32>,
}

impl TokenCounts {
    pub(crate) fn new(sampling: &Sampling, prompt: &[TokenId]) -> Self {
        let mut counts = Self::default();
        if sampling.repetition_penalty != 1.0 {
            prompt
                .iter()
                .for_each(|&token| *counts.in_context.entry(token).or_default() += 1);
        }
        counts
    }

    pub(crate) fn push(&mut self, token: TokenId) {
        *self.in_context.entry(token).or_default() += 1;
        *self.in_output.entry(token).or_default() += 1;
    }

    /// Undoes a [`TokenCounts::push`].
    pub(crate) fn pop(&mut self, token: TokenId) {
        for counts in [&mut self.in_context, &mut self.in_output] {
            if let Entry::Occupied(mut count) = counts.entry(token) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Which tokens may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed<'a> {
    /// Ids at or above this are not tokens.
    pub(crate) n_tokens: usize,
    /// The constraint's.
    pub(crate) mask: Option<&'a TokenMask>,
    /// Not these.
    pub(crate) banned: &'a [TokenId],
}

impl Allowed<'_> {
    fn holds(&self, token: TokenId) -> bool {
        (token as usize) < self.n_tokens
            && self.mask.is_none_or(|mask| mask.is_allowed(token))
            && !self.banned.contains(&token)
    }

    /// Calls `visit` for each allowed token in ascending order.
    fn for_each(&self, n_logits: usize, mut visit: impl FnMut(TokenId)) {
        let limit = n_logits.min(self.n_tokens) as TokenId;
        match self.mask {
            Some(mask) => mask
                .iter()
                .take_while(|&id| id < limit)
                .for_each(&mut visit),
            None => (0..limit).for_each(&mut visit),
        }
    }
}

/// A uniform number in [0, 1) for one draw: SplitMix64's finaliser over the counter.
pub(crate) fn uniform(seed: u64, position: u64, draw: u64) -> f64 {
    let mut x = mix(seed).wrapping_add(mix(position ^ 0x9E37_79B9_7F4A_7C15));
    x = mix(x.wrapping_add(draw.wrapping_mul(0xD1B5_4A32_D192_ED03)));
    (x >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Applies penalties and bias to a row of logits.
pub(crate) fn penalise(row: &mut [f32], sampling: &Sampling, counts: &TokenCounts) {
    if sampling.repetition_penalty != 1.0 {
        for &token in counts.in_context.keys() {
            if let Some(logit) = row.get_mut(token as usize) {
                let penalty = sampling.repetition_penalty;
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }
    if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
        for (&token, &n_times) in &counts.in_output {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit -= sampling.presence_penalty + sampling.frequency_penalty * n_times as f32;
            }
        }
    }
    for &(token, bias) in &sampling.logit_bias {
        if let Some(logit) = row.get_mut(token as usize) {
            *logit += bias;
        }
    }
}

/// Chooses among the allowed tokens with `random` in [0, 1). Logits that are not numbers count as negative infinity;
/// where no allowed logit is finite, the lowest allowed id is taken. None only if nothing is allowed.
pub(crate) fn choose(
    row: &[f32],
    sampling: &Sampling,
    allowed: Allowed<'_>,
    random: f64,
) -> Option<TokenId> {
    if sampling.temperature == 0.0 || sampling.top_k == 1 {
        return greedy(row, allowed);
    }
    let mut candidates = candidates(row, sampling.temperature, allowed);
    if candidates.is_empty() {
        return greedy(row, allowed);
    }
    keep_top_k(&mut candidates, sampling.top_k);
    keep_top_p(&mut candidates, sampling.top_p);
    let max = max_score(&candidates);
    if sampling.min_p > 0.0 {
        let least = max + sampling.min_p.ln();
        candidates.retain(|&(score, _)| score >= least);
    }
    draw(&mut candidates, max, random)
}

/// The highest logit's token, the lowest id among equals.
fn greedy(row: &[f32], allowed: Allowed<'_>) -> Option<TokenId> {
    if allowed.mask.is_none() {
        return highest_but(&row[..row.len().min(allowed.n_tokens)], allowed.banned);
    }
    let mut best: Option<(f32, TokenId)> = None;
    allowed.for_each(row.len(), |token| {
        let logit = number_or_least(row[token as usize]);
        if allowed.holds(token) && best.is_none_or(|(highest, _)| logit > highest) {
            best = Some((logit, token));
        }
    });
    best.map(|(_, token)| token)
}

/// The highest logit's token that is not banned, the lowest id among equals; the first token if no logit is above
/// negative infinity.
fn highest_but(row: &[f32], banned: &[TokenId]) -> Option<TokenId> {
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
    let offset = stretch.iter().position(|&logit| logit == max).unwrap_or(0);
    Some((first + offset) as TokenId)
}

fn number_or_least(logit: f32) -> f32 {
    if logit.is_nan() {
        f32::NEG_INFINITY
    } else {
        logit
    }
}

/// Allowed tokens with their logit over the temperature; only numbers, infinity as the greatest finite one.
fn candidates(row: &[f32], temperature: f32, allowed: Allowed<'_>) -> Vec<(f32, TokenId)> {
    let mut candidates = Vec::new();
    allowed.for_each(row.len(), |token| {
        let logit = number_or_least(row[token as usize]);
        if logit > f32::NEG_INFINITY && allowed.holds(token) {
            let score = (logit / temperature).clamp(f32::MIN, f32::MAX);
            candidates.push((score, token));
        }
    });
    candidates
}

/// Best first; the lower id first among equals.
fn by_score(a: &(f32, TokenId), b: &(f32, TokenId)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn keep_top_k(candidates: &mut Vec<(f32, TokenId)>, top_k: usize) {
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_score);
        candidates.truncate(top_k);
    }
}

fn keep_top_p(candidates: &mut Vec<(f32, TokenId)>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let max = max_score(candidates);
    let total: f64 = candidates
        .iter()
        .map(|&(score, _)| weight(score, max))
        .sum();
    let goal = f64::from(top_p) * total;
    let n_guessed = NUCLEUS_GUESS.min(candidates.len());
    if n_guessed < candidates.len() {
        candidates.select_nth_unstable_by(n_guessed, by_score);
    }
    candidates[..n_guessed].sort_unstable_by(by_score);
    let guessed: f64 = candidates[..n_guessed]
        .iter()
        .map(|&(score, _)| weight(score, max))
        .sum();
    if guessed < goal {
        candidates.sort_unstable_by(by_score);
    }
    let mut reached = 0.0;
    let n_kept = candidates.iter().position(|&(score, _)| {
        reached += weight(score, max);
        reached >= goal
    });
    candidates.truncate(n_kept.map_or(candidates.len(), |last| last + 1));
}

fn max_score(candidates: &[(f32, TokenId)]) -> f32 {
    candidates
        .iter()
        .fold(f32::MIN, |max, &(score, _)| max.max(score))
}

fn weight(score: f32, max: f32) -> f64 {
    f64::from(score - max).exp()
}

/// The token at which the running sum of probabilities, in the order of ids, passes `random`.
fn draw(candidates: &mut [(f32, TokenId)], max: f32, random: f64) -> Option<TokenId> {
    candidates.sort_unstable_by_key(|&(_, token)| token);
    let total: f64 = candidates
        .iter()
        .map(|&(score, _)| weight(score, max))
        .sum();
    let goal = random * total;
    let mut reached = 0.0;
    let chosen = candidates.iter().find(|&&(score, _)| {
        reached += weight(score, max);
        reached > goal
    });
    chosen.or(candidates.last()).map(|&(_, token)| token)
}

/// The log-probability of a token, given the row's [`log_sum_exp`]. Never above 0, never NaN.
pub(crate) fn logprob(row: &[f32], token: TokenId, log_sum: f32) -> f32 {
    let logit = row
        .get(token as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    (number_or_least(logit).min(f32::MAX) - log_sum).min(0.0)
}

/// The `n_top` most probable tokens, best first.
pub(crate) fn top_logprobs(row: &[f32], n_top: usize, log_sum: f32) -> Vec<(TokenId, f32)> {
    if n_top == 0 {
        return Vec::new();
    }
    let scores = row.iter().map(|&logit| number_or_least(logit));
    let mut all: Vec<(f32, TokenId)> = scores.zip(0..).collect();
    keep_top_k(&mut all, n_top);
    all.sort_unstable_by(by_score);
    all.into_iter()
        .map(|(_, token)| (token, logprob(row, token, log_sum)))
        .collect()
}
