//! One generation's own state: constraint, sampler, text. It survives preemption untouched.

use std::sync::Arc;

use lmrun_grammar::{Matcher, Vocabulary};
use lmrun_kernels::{Adjustment, Allowed, Draw, Drawn};
use lmrun_model::Pick;

use crate::guide::{Course, DeadEnd, Guide, Step, invalid};
use crate::output::Output;
use crate::row::Row;
use crate::sampler::{self, TokenCounts};
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
    /// The token that was planned, and its log-probability.
    Planned(TokenId, f32),
    /// A token, its log-probability, and the tokens planned after it.
    New(TokenId, f32, Vec<TokenId>),
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

    /// How many tokens come before the one that the logits after `position` choose, from the next on.
    fn n_ahead(&self, position: usize) -> usize {
        let n_ahead = position.checked_sub(self.next_position());
        n_ahead.expect("rows are asked for from the next position on")
    }

    /// The logits that are wanted of a position, [`Generation::next_position`] or one after it.
    pub(crate) fn pick(&self, position: usize) -> Pick<'_> {
        let whole = match self.request.n_top_logprobs {
            0 => Pick::Held,
            _ => Pick::All,
        };
        let Some(guide) = &self.guide else {
            return whole;
        };
        match guide.step(self.n_ahead(position)) {
            Some(step) => step.picked.as_deref().map_or(whole, Pick::Tokens),
            None => Pick::Tokens(&[]),
        }
    }

    /// What penalties and bias make of the logits after a position, if all that is planned up to there comes to be.
    pub(crate) fn adjustments(&self, position: usize) -> Vec<Adjustment> {
        if !self.needs_penalties() {
            return Vec::new();
        }
        let sampling = &self.request.sampling;
        let n_ahead = self.n_ahead(position);
        let Some(guide) = self.guide.as_ref().filter(|_| n_ahead > 0) else {
            return sampler::adjustments(sampling, &self.counts);
        };
        let mut counts = self.counts.clone();
        guide.planned(n_ahead).for_each(|token| counts.push(token));
        sampler::adjustments(sampling, &counts)
    }

    /// The first draw from the logits after a position, if all that is planned up to there comes to be.
    pub(crate) fn first_draw<'a>(
        &'a self,
        row_idx: usize,
        position: usize,
        adjustments: &'a [Adjustment],
    ) -> Draw<'a> {
        let n_ahead = self.n_ahead(position);
        let step = self.guide.as_ref().and_then(|guide| guide.step(n_ahead));
        let draw = self.draw_under(step, self.n_chosen() + n_ahead, 0, adjustments);
        Draw { row_idx, ..draw }
    }

    /// Text held back until the end.
    pub(crate) fn finish(&mut self) -> String {
        self.output.finish()
    }

    /// Takes the logits after [`Generation::next_position`].
    ///
    /// # Errors
    /// What the constraint reports, which ends the request.
    pub(crate) fn advance(&mut self, row: &mut Row<'_>) -> Result<Advance, RequestError> {
        if let Some(reason) = self.end_reached() {
            return Ok(Advance::end(reason));
        }
        let n_top = self.request.n_top_logprobs;
        let top = row.values().filter(|_| n_top > 0).map(|values| {
            let log_sum = sampler::log_sum_exp(values);
            sampler::top_logprobs(values, n_top, log_sum)
        });
        let (id, logprob, change, forced) = match self.choose(row)? {
            Choice::Planned(id, logprob) => (id, logprob, Change::None, true),
            Choice::New(id, logprob, planned) => {
                let tokens = std::iter::once(id).chain(planned).collect();
                (id, logprob, Change::Follow(tokens), false)
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
        self.counts.push(id);
        self.held.push(Chosen {
            id,
            logprob,
            top: top.unwrap_or_default(),
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
    fn choose(&mut self, row: &mut Row<'_>) -> Result<Choice, RequestError> {
        let Some(mut guide) = self.guide.take() else {
            let Drawn { token, logprob } = self.draw(row, None, 0);
            let token =
                token.ok_or_else(|| RequestError::Invalid("no token can be sampled".into()))?;
            let is_end = self.vocabulary.end_tokens().contains(&token);
            return Ok(match is_end {
                true => Choice::End,
                false => Choice::New(token, logprob, Vec::new()),
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
    fn choose_guided(
        &mut self,
        row: &mut Row<'_>,
        guide: &mut Guide,
    ) -> Result<Choice, RequestError> {
        let mut step = guide.next_step();
        let mut n_draws = 0;
        loop {
            let Drawn { token, logprob } = self.draw(row, Some(&step), n_draws);
            let Some(token) = token else {
                return Ok(Choice::Back);
            };
            if step.planned == Some(token) {
                return Ok(Choice::Planned(token, logprob));
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
                Ok(planned) => return Ok(Choice::New(token, logprob, planned)),
                Err(DeadEnd) => guide.refuse_last(&mut step)?,
            }
        }
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

    /// Draws the next token by the mask of a step.
    fn draw(&self, row: &mut Row<'_>, step: Option<&Step>, n_draws: u64) -> Drawn {
        let drawn = row.take_first();
        if let Some(drawn) = drawn.filter(|drawn| drawn.token.is_some()) {
            return drawn;
        }
        let adjustments = self.adjustments(self.next_position());
        let mut draw = self.draw_under(step, self.n_chosen(), n_draws, &adjustments);
        if drawn.is_none() {
            let drawn = row.draw(draw);
            if drawn.token.is_some() || draw.allowed.banned.is_empty() {
                return drawn;
            }
        }
        // The constraint allows nothing but an end, which outweighs `min_tokens`.
        draw.allowed.banned = &[];
        row.draw(draw)
    }

    /// A draw of output token `n_before`, from 0, by the mask of its step, after `n_draws` others.
    fn draw_under<'a>(
        &'a self,
        step: Option<&'a Step>,
        n_before: usize,
        n_draws: u64,
        adjustments: &'a [Adjustment],
    ) -> Draw<'a> {
        let sampling = &self.request.sampling;
        let ends = self.vocabulary.end_tokens();
        let position = self.n_prompt + n_before;
        let is_too_short = n_before < self.request.min_tokens;
        Draw {
            row_idx: 0,
            adjustments,
            allowed: Allowed {
                n_tokens: self.vocabulary.n_tokens(),
                mask: step.map(|step| step.mask.words()),
                banned: if is_too_short { ends } else { &[] },
            },
            sampler: sampler::sampler_of(sampling),
            random: sampler::uniform(sampling.seed, position as u64, n_draws),
            wants_logprob: !self.request.without_logprobs,
        }
    }
}
