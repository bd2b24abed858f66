//! Logits to one token.
//!
//! The order is that of vLLM and Hugging Face: penalties and bias, mask, temperature, top-k, top-p, min-p. The generator
//! is counter-based: a draw depends on the seed and the position alone, so a batch, a preemption or a neighbour cannot
//! change it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub(crate) use lmrun_kernels::log_sum_exp;
use lmrun_kernels::{Adjustment, Sampler, highest};

use crate::{Sampling, TokenId};

/// How often tokens are in a context, for the penalties.
#[derive(Debug, Default, Clone)]
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

/// What penalties and bias make of the logits, one adjustment a token.
pub(crate) fn adjustments(sampling: &Sampling, counts: &TokenCounts) -> Vec<Adjustment> {
    let mut biases: HashMap<TokenId, f32> = HashMap::new();
    for &(token, bias) in &sampling.logit_bias {
        *biases.entry(token).or_default() += bias;
    }
    let of = |(&token, _)| {
        let less = counts.in_output.get(&token).map_or(0.0, |&n_times| {
            sampling.presence_penalty + sampling.frequency_penalty * n_times as f32
        });
        Adjustment {
            token,
            repetition: sampling.repetition_penalty,
            less,
            more: biases.remove(&token).unwrap_or_default(),
        }
    };
    let mut adjustments: Vec<Adjustment> = counts.in_context.iter().map(of).collect();
    adjustments.extend(biases.into_iter().map(|(token, more)| Adjustment {
        token,
        repetition: 1.0,
        less: 0.0,
        more,
    }));
    adjustments
}

/// How tokens are drawn, as devices are told.
pub(crate) fn sampler_of(sampling: &Sampling) -> Sampler {
    Sampler {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
    }
}

/// The log-probability of a token, given the row's [`log_sum_exp`]. Never above 0, never NaN.
pub(crate) fn logprob(row: &[f32], token: TokenId, log_sum: f32) -> f32 {
    let logit = row
        .get(token as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    lmrun_kernels::logprob(logit, log_sum)
}

/// The `n_top` most probable tokens, best first.
pub(crate) fn top_logprobs(row: &[f32], n_top: usize, log_sum: f32) -> Vec<(TokenId, f32)> {
    highest(row, n_top)
        .into_iter()
        .map(|token| (token, logprob(row, token, log_sum)))
        .collect()
}
