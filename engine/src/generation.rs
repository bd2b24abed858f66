//! One generation's own state: constraint, sampler, text. It survives preemption untouched.

use std::sync::Arc;

use lmrun_grammar::{Matcher, Vocabulary};
use lmrun_model::Pick;

use crate::guide::{Course, DeadEnd, Guide, Step, invalid};
use crate::output::Output;
use crate::sampler::{self, Allowed, TokenCounts};
use crate::{FinishReason, Generate, RequestError, Token, TokenId};

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
    /// The tokens told.
    output: Output,
    /// Tokens chosen that could still be taken back, and so are not told yet.
    held: Vec<Chosen>,
    /// Tokens given out with a [`Token`], before a stop cuts them.
    n_told: usize,
    tally: Tally,
}

/// What happened so far beside the tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tokens told that were planned.
    pub(crate) n_forced: usize,
    /// Planned tokens that the sampler did not choose, or that came after such a one.
    pub(crate) n_unplanned: usize,
    /// Times that chosen tokens were taken back.
    pub(crate) n_rollbacks: usize,
}

/// A token before its text is known.
#[derive(Debug)]
struct Chosen {
    id: TokenId,
    logprob: f32,
    top: Vec<(TokenId, f32)>,
    forced: bool,
}

/// What a row of logits led to.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    /// The tokens to tell.
    pub(crate) tokens: Vec<Token>,
    /// How the sequence changes.
    pub(crate) change: Change,
    /// Whether the output has ended.
    pub(crate) finished: Option<FinishReason>,
}

/// How a sequence changes after a row of its logits was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Change {
    /// It goes on as planned.
    #[default]
    None,
    /// These tokens follow the row's position, and nothing that was planned after it.
    Follow(Vec<TokenId>),
    /// It ends at this position, whose logits are needed again after the token before it was taken back.
    Rewind(usize),
}

/// A choice among the legal tokens.
enum Choice {
    /// The token that was planned.
    Planned(TokenId),
    /// A token, and those planned after it.
    New(TokenId, Vec<TokenId>),
    /// An end token.
    End,
    /// No token avoids a dead end.
    Back,
}

impl Advance {
    fn end(reason: FinishReason) -> Self {
        Self {
            finished: Some(reason),
            ..Self::default()
        }
    }
}

impl Generation {
    /// A generation whose tokens `course` bounds, and the tokens that its constraint plans at once.
    ///
    /// # Errors
    /// [`RequestError::BudgetTooSmall`], and `Invalid` for what the constraint reports.
    pub(crate) fn new(
        request: Generate,
        prompt: &[TokenId],
        course: Course,
    ) -> Result<(Self, Vec<TokenId>), RequestError> {
        let (vocabulary, limit) = (Arc::clone(&course.vocabulary), course.limit);
        let (guide, planned) = match &request.constraint {
            None => (None, Vec::new()),
            Some(constraint) => {
                let matcher = Matcher::new(constraint.clone(), Arc::clone(&vocabulary));
                let (guide, planned) = Guide::new(matcher.map_err(invalid)?, course)?;
                (Some(guide), planned)
            }
        };
        let generation = Self {
            counts: TokenCounts::new(&request.sampling, prompt),
            output: Output::new(request.stop.clone()),
            n_prompt: prompt.len(),
            request,
            vocabulary,
            limit,
            guide,
            held: Vec::new(),
            n_told: 0,
            tally: Tally::default(),
        };
        Ok((generation, planned))
    }

    /// Tokens told and kept so far.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        self.output.tokens()
    }

    /// Output tokens told.
    pub(crate) fn n_told(&self) -> usize {
        self.n_told
    }

    /// What happened so far beside the tokens.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Output tokens chosen.
    fn n_chosen(&self) -> usize {
        self.n_told + self.held.len()
    }

    /// The position whose logits the next row must be.
    pub(crate) fn next_position(&self) -> usize {
        self.n_prompt + self.n_chosen() - 1
    }

    /// The logits that are wanted of a position, [`Generation::next_position`] or one after it.
    pub(crate) fn pick(&self, position: usize) -> Pick<'_> {
        let picked = self.guide.as_ref().and_then(|guide| {
            let ahead = position.checked_sub(self.next_position())?;
            guide.picked(ahead)
        });
        picked.map_or(Pick::All, Pick::Tokens)
    }

    /// Text held back until the end.
    pub(crate) fn finish(&mut self) -> String {
        self.output.finish()
    }

    /// Takes the logits after [`Generation::next_position`], `[n_vocab]`, which it may overwrite. Those that were not
    /// picked are negative infinity.
    ///
    /// # Errors
    /// What the constraint reports, which ends the request.
    pub(crate) fn advance(&mut self, row: &mut [f32]) -> Result<Advance, RequestError> {
        if let Some(reason) = self.end_reached() {
            return Ok(Advance::end(reason));
        }
        let wants_logprobs = !self.request.without_logprobs;
        let log_sum = wants_logprobs.then(|| sampler::log_sum_exp(row));
        let top = log_sum.map_or_else(Vec::new, |log_sum| {
            sampler::top_logprobs(row, self.request.n_top_logprobs, log_sum)
        });
        let raw = (wants_logprobs && self.needs_penalties()).then(|| row.to_vec());
        let (id, change, forced) = match self.choose(row)? {
            Choice::Planned(id) => (id, Change::None, true),
            Choice::New(id, planned) => {
                let tokens = std::iter::once(id).chain(planned).collect();
                (id, Change::Follow(tokens), false)
            }
            Choice::End => {
                let (tokens, stop) = self.tell_held();
                return Ok(Advance {
                    tokens,
                    ..Advance::end(stop.map_or(FinishReason::End, FinishReason::Stop))
                });
            }
            Choice::Back => return self.go_back(),
        };
        let logprob = log_sum.map_or(f32::NAN, |log_sum| {
            sampler::logprob(raw.as_deref().unwrap_or(row), id, log_sum)
        });
        self.counts.push(id);
        self.held.push(Chosen {
            id,
            logprob,
            top,
            forced,
        });
        if !self.guide.as_ref().is_none_or(Guide::is_settled) {
            return Ok(Advance {
                change,
                ..Advance::default()
            });
        }
        let end = self.end_reached();
        let (tokens, stop) = self.tell_held();
        Ok(Advance {
            tokens,
            change,
            finished: stop.map(FinishReason::Stop).or(end),
        })
    }

    /// Tells the tokens that were held, up to a stop string.
    fn tell_held(&mut self) -> (Vec<Token>, Option<String>) {
        let mut tokens = Vec::with_capacity(self.held.len());
        for chosen in std::mem::take(&mut self.held) {
            let bytes = self.vocabulary.bytes(chosen.id).unwrap_or_default();
            let pushed = self.output.push(chosen.id, bytes);
            self.n_told += 1;
            self.tally.n_forced += usize::from(chosen.forced);
            tokens.push(Token {
                id: chosen.id,
                text: pushed.text,
                logprob: chosen.logprob,
                top: chosen.top,
                forced: chosen.forced,
            });
            if pushed.stop.is_some() {
                return (tokens, pushed.stop);
            }
        }
        (tokens, None)
    }

    /// Why nothing can follow what was chosen, if so.
    fn end_reached(&self) -> Option<FinishReason> {
        match &self.guide {
            Some(guide) if !guide.is_over() => None,
            Some(guide) if guide.is_finished() => Some(FinishReason::End),
            _ => (self.n_chosen() == self.limit).then_some(FinishReason::Length),
        }
    }

    fn needs_penalties(&self) -> bool {
        let sampling = &self.request.sampling;
        sampling.repetition_penalty != 1.0
            || sampling.presence_penalty != 0.0
            || sampling.frequency_penalty != 0.0
            || !sampling.logit_bias.is_empty()
    }

    /// Chooses the next token, has the guide take it, and plans what follows.
    fn choose(&mut self, row: &mut [f32]) -> Result<Choice, RequestError> {
        if self.needs_penalties() {
            sampler::penalise(row, &self.request.sampling, &self.counts);
        }
        let Some(mut guide) = self.guide.take() else {
            let token = self.draw(row, None, 0);
            let token =
                token.ok_or_else(|| RequestError::Invalid("no token can be sampled".into()))?;
            let is_end = self.vocabulary.end_tokens().contains(&token);
            return Ok(match is_end {
                true => Choice::End,
                false => Choice::New(token, Vec::new()),
            });
        };
        let choice = self.choose_guided(row, &mut guide);
        self.guide = Some(guide);
        choice
    }

    /// Chooses by the guide's next step.
    ///
    /// The token is drawn under the full mask; if its shortest end would pass the budget, or it leads to a dead end, it
    /// is drawn again from the tokens of which that is not known. That gives the distribution that drawing from those
    /// at first would have given.
    fn choose_guided(&mut self, row: &[f32], guide: &mut Guide) -> Result<Choice, RequestError> {
        let mut step = guide.next_step();
        let mut n_draws = 0;
        while let Some(token) = self.draw(row, Some(&step), n_draws) {
            if step.planned == Some(token) {
                return Ok(Choice::Planned(token));
            }
            if n_draws == 0 {
                self.tally.n_unplanned += guide.unplan(&mut step);
            }
            n_draws += 1;
            if self.vocabulary.end_tokens().contains(&token) {
                return Ok(Choice::End);
            }
            guide.accept(token)?;
            if !guide.fits() {
                guide.turn_to_end(&mut step)?;
                continue;
            }
            match guide.plan()? {
                Ok(planned) => return Ok(Choice::New(token, planned)),
                Err(DeadEnd) => guide.refuse_last(&mut step)?,
            }
        }
        Ok(Choice::Back)
    }

    /// Goes back to where another token can be chosen.
    fn go_back(&mut self) -> Result<Advance, RequestError> {
        let guide = self
            .guide
            .as_mut()
            .expect("only constraints have dead ends");
        let n_left = guide.go_back(self.n_told)?;
        for chosen in self.held.drain(n_left - self.n_told..) {
            self.counts.pop(chosen.id);
        }
        self.tally.n_rollbacks += 1;
        Ok(Advance {
            change: Change::Rewind(self.n_prompt + n_left),
            ..Advance::default()
        })
    }

    /// Draws a token by the mask of a step.
    fn draw(&self, row: &[f32], step: Option<&Step>, draw: u64) -> Option<TokenId> {
        let sampling = &self.request.sampling;
        let ends = self.vocabulary.end_tokens();
        let position = self.n_prompt + self.n_chosen();
        let random = sampler::uniform(sampling.seed, position as u64, draw);
        let is_too_short = self.n_chosen() < self.request.min_tokens;
        let mut allowed = Allowed {
            n_tokens: self.vocabulary.n_tokens(),
            mask: step.map(|step| step.mask.words()),
            banned: if is_too_short { ends } else { &[] },
        };
        if let Some(token) = sampler::choose(row, sampling, allowed, random) {
            return Some(token);
        }
        // The constraint allows nothing but an end, which outweighs `min_tokens`.
        allowed.banned = &[];
        sampler::choose(row, sampling, allowed, random)
    }
}
