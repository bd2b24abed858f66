//! One generation's own state: constraint, sampler, text. It survives preemption untouched.

use std::collections::VecDeque;
use std::sync::Arc;

use lmrun_grammar::{GrammarError, Matcher, TokenMask, Vocabulary};

use crate::output::Output;
use crate::sampler::{self, Allowed, TokenCounts};
use crate::{FinishReason, Generate, RequestError, Token, TokenId};

/// A constraint on its way through the output.
#[derive(Debug)]
struct Guide {
    matcher: Matcher,
    /// The legal next tokens, end tokens among them when the output is complete.
    mask: TokenMask,
    /// Whether nothing but an end can come after what the matcher has taken.
    is_finished: bool,
}

/// A generation in the making.
#[derive(Debug)]
pub(crate) struct Generation {
    request: Generate,
    vocabulary: Arc<Vocabulary>,
    n_prompt: usize,
    /// The most output tokens.
    limit: usize,
    guide: Option<Guide>,
    counts: TokenCounts,
    output: Output,
    /// Tokens given out with a [`Token`], before a stop cuts them.
    n_reported: usize,
    n_forced: usize,
    /// Tokens that the constraint forced and the matcher has taken, not yet reported: their logits must come first.
    forced: VecDeque<TokenId>,
}

/// What a row of logits led to.
#[derive(Debug)]
pub(crate) struct Advance {
    /// The token to report.
    pub(crate) token: Option<Token>,
    /// Tokens that now follow the sequence and need KV.
    pub(crate) next: Vec<TokenId>,
    /// Whether the output has ended.
    pub(crate) finished: Option<FinishReason>,
}

impl Advance {
    fn end(reason: FinishReason) -> Self {
        Self {
            token: None,
            next: Vec::new(),
            finished: Some(reason),
        }
    }
}

impl Generation {
    /// A generation of `limit` tokens at most, and the tokens that its constraint forces at once.
    ///
    /// # Errors
    /// [`RequestError::BudgetTooSmall`], and `Invalid` for what the constraint reports.
    pub(crate) fn new(
        request: Generate,
        prompt: &[TokenId],
        limit: usize,
        vocabulary: Arc<Vocabulary>,
    ) -> Result<(Self, Vec<TokenId>), RequestError> {
        let guide = match &request.constraint {
            None => None,
            Some(constraint) => {
                let matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary));
                let mut matcher = matcher.map_err(invalid)?;
                let given = matcher.min_tokens_to_accept();
                if given > limit {
                    return Err(RequestError::BudgetTooSmall { given, limit });
                }
                let mask = TokenMask::new(vocabulary.n_tokens());
                Some(Guide {
                    matcher,
                    mask,
                    is_finished: false,
                })
            }
        };
        let mut generation = Self {
            counts: TokenCounts::new(&request.sampling, prompt),
            output: Output::new(request.stop.clone()),
            n_prompt: prompt.len(),
            request,
            vocabulary,
            limit,
            guide,
            n_reported: 0,
            n_forced: 0,
            forced: VecDeque::new(),
        };
        let forced = generation.look_ahead(0)?;
        Ok((generation, forced))
    }

    /// Tokens kept so far.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        self.output.tokens()
    }

    /// Output tokens reported, forced ones among them.
    pub(crate) fn n_generated(&self) -> usize {
        self.n_reported
    }

    /// Of those, forced ones.
    pub(crate) fn n_forced(&self) -> usize {
        self.n_forced
    }

    /// The position whose logits the next row must be.
    pub(crate) fn next_position(&self) -> usize {
        self.n_prompt + self.n_reported - 1
    }

    /// Text held back until the end.
    pub(crate) fn finish(&mut self) -> String {
        self.output.finish()
    }

    /// Takes the logits after [`Generation::next_position`], `[n_vocab]`, which it may overwrite.
    ///
    /// # Errors
    /// What the constraint reports, which ends the request.
    pub(crate) fn advance(&mut self, row: &mut [f32]) -> Result<Advance, RequestError> {
        if self.forced.is_empty() {
            if self.guide.as_ref().is_some_and(|guide| guide.is_finished) {
                return Ok(Advance::end(FinishReason::End));
            }
            if self.n_reported == self.limit {
                return Ok(Advance::end(FinishReason::Length));
            }
        }
        let log_sum = sampler::log_sum_exp(row);
        let top = sampler::top_logprobs(row, self.request.n_top_logprobs, log_sum);
        let (id, logprob, next, is_forced) = match self.forced.pop_front() {
            Some(id) => (id, sampler::logprob(row, id, log_sum), Vec::new(), true),
            None => {
                let raw = self.needs_penalties().then(|| row.to_vec());
                let id = self.choose(row)?;
                if self.vocabulary.end_tokens().contains(&id) {
                    return Ok(Advance::end(FinishReason::End));
                }
                let raw = raw.as_deref().unwrap_or(row);
                let mut next = vec![id];
                next.extend(self.look_ahead(self.n_reported + 1)?);
                (id, sampler::logprob(raw, id, log_sum), next, false)
            }
        };
        let pushed = self
            .output
            .push(id, self.vocabulary.bytes(id).unwrap_or_default());
        self.n_reported += 1;
        self.n_forced += usize::from(is_forced);
        self.counts.push(id);
        let token = Token {
            id,
            text: pushed.text,
            logprob,
            top,
            forced: is_forced,
        };
        let finished = pushed
            .stop
            .map(FinishReason::Stop)
            .or_else(|| self.end_reached());
        Ok(Advance {
            token: Some(token),
            next,
            finished,
        })
    }

    /// Why nothing can follow what was reported, if so.
    fn end_reached(&self) -> Option<FinishReason> {
        if !self.forced.is_empty() {
            return None;
        }
        if self.guide.as_ref().is_some_and(|guide| guide.is_finished) {
            return Some(FinishReason::End);
        }
        (self.n_reported == self.limit).then_some(FinishReason::Length)
    }

    fn needs_penalties(&self) -> bool {
        let sampling = &self.request.sampling;
        sampling.repetition_penalty != 1.0
            || sampling.presence_penalty != 0.0
            || sampling.frequency_penalty != 0.0
            || !sampling.logit_bias.is_empty()
    }

    /// Chooses the next token, and has the matcher take it.
    fn choose(&mut self, row: &mut [f32]) -> Result<TokenId, RequestError> {
        if self.needs_penalties() {
            sampler::penalise(row, &self.request.sampling, &self.counts);
        }
        let token = self.draw(row, 0)?;
        let n_left = self.limit - self.n_reported;
        let Some(guide) = &mut self.guide else {
            return Ok(token);
        };
        guide.matcher.accept(token).map_err(invalid)?;
        if guide.matcher.min_tokens_to_accept() < n_left {
            return Ok(token);
        }
        // From there the budget might not reach an end. Choosing anew among the tokens from which it does gives the
        // distribution that choosing among them at first would have given.
        guide.matcher.rollback(1);
        guide
            .matcher
            .mask_toward_end(&mut guide.mask, n_left)
            .map_err(invalid)?;
        let token = self.draw(row, 1)?;
        let guide = self.guide.as_mut().expect("it was there before");
        guide.matcher.accept(token).map_err(invalid)?;
        Ok(token)
    }

    /// Draws a token by the current mask.
    fn draw(&self, row: &[f32], draw: u64) -> Result<TokenId, RequestError> {
        let sampling = &self.request.sampling;
        let ends = self.vocabulary.end_tokens();
        let position = self.n_prompt + self.n_reported;
        let random = sampler::uniform(sampling.seed, position as u64, draw);
        let mask = self.guide.as_ref().map(|guide| &guide.mask);
        let is_too_short = self.n_reported < self.request.min_tokens;
        let mut allowed = Allowed {
            n_tokens: self.vocabulary.n_tokens(),
            mask,
            banned: if is_too_short { ends } else { &[] },
        };
        if let Some(token) = sampler::choose(row, sampling, allowed, random) {
            return Ok(token);
        }
        // The constraint allows nothing but an end, which outweighs `min_tokens`.
        allowed.banned = &[];
        sampler::choose(row, sampling, allowed, random)
            .ok_or_else(|| RequestError::Invalid("no token can be sampled".into()))
    }

    /// Finds the legal next tokens after `n_taken` of the output, and takes those that are the only one. Returns the
    /// forced tokens.
    fn look_ahead(&mut self, n_taken: usize) -> Result<Vec<TokenId>, RequestError> {
        let Some(guide) = &mut self.guide else {
            return Ok(Vec::new());
        };
        let ends = self.vocabulary.end_tokens();
        let mut forced = Vec::new();
        loop {
            if n_taken + forced.len() == self.limit {
                guide.is_finished = guide.matcher.is_finished();
                break;
            }
            guide.matcher.mask(&mut guide.mask).map_err(invalid)?;
            guide.is_finished = guide.mask.iter().all(|token| ends.contains(&token));
            let only = guide.mask.single().filter(|_| !guide.is_finished);
            let Some(token) = only else { break };
            guide.matcher.accept(token).map_err(invalid)?;
            forced.push(token);
        }
        self.forced.extend(&forced);
        Ok(forced)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn invalid(error: GrammarError) -> RequestError {
    RequestError::Invalid(error.to_string())
}
