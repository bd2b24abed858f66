//! Choices of tokens: what sampling.cu is told of each row, and what it answers.

use std::sync::Arc;

use super::device::{Cuda, CudaBuffer};
use super::driver::Context;
use super::room::{Room, must};
use crate::{Adjustment, Allowed, Draw, Drawn};

/// Threads of a block of `sample`.
const N_THREADS: usize = 512;
/// Words of `Request`, of `Adjustment` and of `Answer` in sampling.cu.
const REQUEST_LEN: usize = 12;
const ADJUSTMENT_LEN: usize = 4;
const ANSWER_LEN: usize = 6;
/// The number of no token, and of no mask.
const NONE: u32 = u32::MAX;

/// What the draws of a batch are told and leave.
pub(super) struct Sampling {
    masks: Room,
    adjustments: Room,
    raw: Room,
    requests: Room,
    answers: Room,
}

impl Sampling {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let room = || Room::new(context);
        Self {
            masks: room(),
            adjustments: room(),
            raw: room(),
            requests: room(),
            answers: room(),
        }
    }
}

/// Draws as sampling.cu reads them.
#[derive(Default)]
struct Words {
    masks: Vec<u32>,
    adjustments: Vec<u32>,
    requests: Vec<u32>,
}

impl Words {
    fn of(draws: &[Draw<'_>], n_vocab: usize) -> Self {
        let mut words = Self::default();
        for draw in draws {
            let (n_tokens, mask) = words.add_mask(draw.allowed, n_vocab);
            let first_adjustment = words.adjustments.len() / ADJUSTMENT_LEN;
            for adjustment in draw.adjustments {
                let &Adjustment {
                    token,
                    repetition,
                    less,
                    more,
                } = adjustment;
                // A token without a logit has nothing to adjust.
                if (token as usize) < n_vocab {
                    let numbers = [repetition, less, more].map(f32::to_bits);
                    words.adjustments.push(token);
                    words.adjustments.extend(numbers);
                }
            }
            let n_adjustments = words.adjustments.len() / ADJUSTMENT_LEN - first_adjustment;
            let random = draw.random.to_bits();
            let request: [u32; REQUEST_LEN] = [
                draw.row_idx as u32,
                n_tokens as u32,
                mask,
                first_adjustment as u32,
                n_adjustments as u32,
                u32::from(draw.wants_logprob),
                // More than there can be is all.
                draw.sampler.top_k.min(n_vocab) as u32,
                draw.sampler.temperature.to_bits(),
                draw.sampler.top_p.to_bits(),
                draw.sampler.least_below().to_bits(),
                random as u32,
                (random >> 32) as u32,
            ];
            words.requests.extend(request);
        }
        words
    }

    /// Adds the mask of what is allowed, if it needs one: how many tokens it is about, and where it begins.
    fn add_mask(&mut self, allowed: Allowed<'_>, n_vocab: usize) -> (usize, u32) {
        let n_tokens = allowed.n_tokens.min(n_vocab);
        if allowed.mask.is_none() && allowed.banned.is_empty() {
            return (n_tokens, NONE);
        }
        let start = self.masks.len();
        let n_words = n_tokens.div_ceil(32);
        match allowed.mask {
            None => self.masks.resize(start + n_words, u32::MAX),
            Some(mask) => {
                let halves = mask
                    .iter()
                    .flat_map(|&word| [word as u32, (word >> 32) as u32]);
                self.masks.extend(halves.take(n_words));
                self.masks.resize(start + n_words, 0);
            }
        }
        for &token in allowed.banned {
            if let Some(word) = self.masks[start..].get_mut(token as usize / 32) {
                *word &= !(1 << (token % 32));
            }
        }
        (n_tokens, start as u32)
    }
}

impl Cuda {
    /// See [`crate::Device::sample`].
    pub(super) fn draw_rows(&mut self, logits: &mut CudaBuffer, draws: &[Draw<'_>]) -> Vec<Drawn> {
        let mut is_drawn = vec![false; logits.n_rows];
        for draw in draws {
            let was_drawn = std::mem::replace(&mut is_drawn[draw.row_idx], true);
            assert!(!was_drawn, "row {} is drawn from twice", draw.row_idx);
        }
        if draws.is_empty() {
            return Vec::new();
        }
        let words = Words::of(draws, logits.width);
        let n_answer_words = ANSWER_LEN * draws.len();
        let rooms = &mut self.sampling;
        rooms.masks.put(&words.masks);
        rooms.adjustments.put(&words.adjustments);
        let n_adjustments = words.adjustments.len() / ADJUSTMENT_LEN;
        rooms.raw.at_least(n_adjustments * size_of::<f32>());
        rooms.requests.put(&words.requests);
        rooms.answers.at_least(n_answer_words * size_of::<u32>());
        let arguments = [
            logits.memory.held().into(),
            logits.width.into(),
            rooms.masks.held().into(),
            rooms.adjustments.held().into(),
            rooms.raw.held().into(),
            rooms.requests.held().into(),
            rooms.answers.held().into(),
        ];
        let kernel = &self.kernels["sample"];
        self.context
            .launch(kernel, [draws.len(), 1], N_THREADS, 0, &arguments);
        let answers: Vec<u32> = must(self.sampling.answers.held().download(n_answer_words));
        let answers = answers.as_chunks::<ANSWER_LEN>().0;
        draws
            .iter()
            .zip(answers)
            .map(|(draw, answer)| drawn(draw, answer))
            .collect()
    }
}

/// What an answer says.
fn drawn(draw: &Draw<'_>, answer: &[u32; ANSWER_LEN]) -> Drawn {
    let &[token, logit, greatest, _, low, high] = answer;
    let token = (token != NONE).then_some(token);
    if !draw.wants_logprob || token.is_none() {
        let logprob = f32::NAN;
        return Drawn { token, logprob };
    }
    let (logit, greatest) = (f32::from_bits(logit), f32::from_bits(greatest));
    let total = u64::from(high) << 32 | u64::from(low);
    let log_sum = greatest + crate::sampling::log_weight(total);
    let logprob = crate::logprob(logit, log_sum);
    Drawn { token, logprob }
}
