//! A constraint on its way through one output: which tokens may come, which are planned ahead, and the way back from
//! where nothing may follow.
//!
//! A *step* is one token to come: its mask and, if there is one, the token planned for it. Tokens are planned where only
//! one is legal, and where the bytes are forced (see [`crate::draft`]); a planned token is computed together with the one
//! before it, and stands only if the sampler, with the logits before it, chooses the same. A *dead end* is an output that
//! no token continues; the token that led there is *refused* where it stood.

use std::collections::VecDeque;
use std::sync::Arc;

use lmrun_grammar::{GrammarError, Matcher, TokenMask, Vocabulary};

use crate::draft::Drafter;
use crate::{RequestError, TokenId};

/// Tokens planned ahead at most: what a step computes for one request stays bounded.
const MAX_PLANNED: usize = 64;
/// Forced bytes looked at together.
const MAX_FORCED_BYTES: usize = 256;
/// Tokens that dead ends may refuse in one output.
const MAX_REFUSED: usize = 256;
/// The share of the vocabulary up to which only the legal tokens' logits are computed: one in so many.
const PICKED_SHARE: usize = 16;

/// What does not change while an output is made.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) vocabulary: Arc<Vocabulary>,
    /// Proposes tokens for forced bytes; without it every token is a step of its own.
    pub(crate) drafter: Option<Arc<Drafter>>,
    /// Tokens at or above this have no logits.
    pub(crate) n_logits: usize,
    /// The most output tokens.
    pub(crate) limit: usize,
    /// Whether the logits of all tokens are wanted, legal or not.
    pub(crate) wants_all: bool,
}

/// One token to come.
#[derive(Debug)]
pub(crate) struct Step {
    /// The legal tokens, end tokens among them when the output is complete; never empty.
    pub(crate) mask: TokenMask,
    /// The token that is computed ahead; one that the matcher has taken.
    pub(crate) planned: Option<TokenId>,
    /// The tokens whose logits are enough, ascending; all tokens if none.
    pub(crate) picked: Option<Vec<TokenId>>,
    /// Whether nothing before this token can be taken back.
    is_settled: bool,
}

/// Nothing may follow the tokens taken.
#[derive(Debug)]
pub(crate) struct DeadEnd;

/// A constraint's state in one output.
#[derive(Debug)]
pub(crate) struct Guide {
    course: Course,
    matcher: Matcher,
    /// What the matcher has taken: the output's tokens, then the planned ones.
    tokens: Vec<TokenId>,
    /// The steps after the output's tokens, all but the last with a planned token; empty once nothing can follow.
    ahead: VecDeque<Step>,
    /// Whether nothing but an end can come after what the matcher has taken.
    is_finished: bool,
    /// Tokens that led to dead ends, each with the number of tokens before it.
    refused: Vec<(usize, TokenId)>,
    n_refused: usize,
}

impl Guide {
    /// A guide at the start of an output, and the tokens it plans.
    ///
    /// # Errors
    /// [`RequestError::BudgetTooSmall`], and `Invalid` for what the constraint reports.
    pub(crate) fn new(
        mut matcher: Matcher,
        course: Course,
    ) -> Result<(Self, Vec<TokenId>), RequestError> {
        let (given, limit) = (matcher.min_tokens_to_accept(), course.limit);
        if given > limit {
            return Err(RequestError::BudgetTooSmall { given, limit });
        }
        let mut guide = Self {
            course,
            matcher,
            tokens: Vec::new(),
            ahead: VecDeque::new(),
            is_finished: false,
            refused: Vec::new(),
            n_refused: 0,
        };
        let planned = guide.plan()?;
        let planned = planned.map_err(|DeadEnd| invalid(GrammarError::NoToken))?;
        Ok((guide, planned))
    }

    /// Whether the output's tokens so far are all there can be.
    pub(crate) fn is_over(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Whether nothing but an end can come after what the matcher has taken.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether the output's tokens so far can no longer be taken back.
    pub(crate) fn is_settled(&self) -> bool {
        self.ahead.front().is_none_or(|step| step.is_settled)
    }

    /// The step `n_ahead` steps after the next; none where the output is over by then.
    pub(crate) fn step(&self, n_ahead: usize) -> Option<&Step> {
        self.ahead.get(n_ahead)
    }

    /// The tokens planned for the next `n_steps`.
    pub(crate) fn planned(&self, n_steps: usize) -> impl Iterator<Item = TokenId> {
        let steps = self.ahead.iter().take(n_steps);
        steps.filter_map(|step| step.planned)
    }

    /// The next step, whose token is to be chosen.
    ///
    /// # Panics
    /// If the output is over.
    pub(crate) fn next_step(&mut self) -> Step {
        self.ahead
            .pop_front()
            .expect("a step until the output is over")
    }

    /// Forgets what is planned from `step`, the one that [`Guide::next_step`] gave, on. Returns how many tokens that is.
    pub(crate) fn unplan(&mut self, step: &mut Step) -> usize {
        let later = self.ahead.iter().filter(|step| step.planned.is_some());
        let n_planned = later.count() + usize::from(step.planned.take().is_some());
        self.take_back(n_planned);
        self.ahead.clear();
        self.is_finished = false;
        n_planned
    }

    /// Takes a token that the mask of the step holds.
    ///
    /// # Errors
    /// What the constraint reports.
    pub(crate) fn accept(&mut self, token: TokenId) -> Result<(), RequestError> {
        self.matcher.accept(token).map_err(invalid)?;
        self.tokens.push(token);
        Ok(())
    }

    /// Whether the budget still reaches an end of the output.
    pub(crate) fn fits(&mut self) -> bool {
        let n_left = self.course.limit - self.tokens.len();
        self.matcher.min_bytes_to_accept() <= n_left
            || self.matcher.min_tokens_to_accept() <= n_left
    }

    /// Takes the last token back, and leaves in `step` only the tokens from which the budget reaches an end.
    ///
    /// # Errors
    /// What the constraint reports.
    pub(crate) fn turn_to_end(&mut self, step: &mut Step) -> Result<(), RequestError> {
        self.take_back(1);
        let n_left = self.course.limit - self.tokens.len();
        match self.matcher.mask_toward_end(&mut step.mask, n_left) {
            Ok(()) => {
                self.forbid_refused(&mut step.mask);
                Ok(())
            }
            Err(GrammarError::Budget { .. }) => {
                step.mask.clear();
                Ok(())
            }
            Err(error) => Err(invalid(error)),
        }
    }

    /// Takes the last token back, for it led to a dead end, and forbids it in its `step`.
    ///
    /// # Errors
    /// `Invalid` if too many tokens were refused.
    pub(crate) fn refuse_last(&mut self, step: &mut Step) -> Result<(), RequestError> {
        let token = *self.tokens.last().expect("a dead end has a way to it");
        self.take_back(1);
        step.mask.forbid(token);
        self.refuse(token)
    }

    /// After a dead end that no token of its step avoids: goes back to the last of the output's tokens that can be
    /// another, but not before the first `n_told`, and refuses it. Returns how many tokens are left.
    ///
    /// # Errors
    /// `Invalid` if there is no such token, or too many were refused.
    pub(crate) fn go_back(&mut self, n_told: usize) -> Result<usize, RequestError> {
        self.ahead.clear();
        self.is_finished = false;
        while self.tokens.len() > n_told {
            self.refused.retain(|&(at, _)| at < self.tokens.len());
            let token = *self.tokens.last().expect("more than those told");
            self.take_back(1);
            self.refuse(token)?;
            if let Some(step) = self.find_step()? {
                self.ahead.push_back(step);
                return Ok(self.tokens.len());
            }
        }
        Err(RequestError::Invalid(format!(
            "the output came to where nothing may follow, and no other way was left after its first {n_told} tokens"
        )))
    }

    /// Finds the step after what the matcher has taken, and those after it as far as they can be planned. Returns the
    /// planned tokens.
    ///
    /// # Errors
    /// What the constraint reports.
    pub(crate) fn plan(&mut self) -> Result<Result<Vec<TokenId>, DeadEnd>, RequestError> {
        let n_before = self.tokens.len();
        let mut draft = VecDeque::new();
        loop {
            if self.tokens.len() == self.course.limit {
                self.is_finished = self.matcher.is_finished();
                break;
            }
            let Some(mut step) = self.find_step()? else {
                if !self.avoid_dead_end(n_before)? {
                    return Ok(Err(DeadEnd));
                }
                break;
            };
            let ends = self.course.vocabulary.end_tokens();
            if step.mask.iter().all(|token| ends.contains(&token)) {
                self.is_finished = true;
                break;
            }
            step.planned = self.proposed(&step, n_before, &mut draft)?;
            let is_planned = step.planned.is_some();
            self.ahead.push_back(step);
            if !is_planned {
                break;
            }
        }
        Ok(Ok(self.tokens[n_before..].to_vec()))
    }

    /// The token to plan for a step, which the matcher then has taken.
    fn proposed(
        &mut self,
        step: &Step,
        n_before: usize,
        draft: &mut VecDeque<TokenId>,
    ) -> Result<Option<TokenId>, RequestError> {
        let Some(drafter) = self.course.drafter.clone() else {
            return Ok(None);
        };
        if self.tokens.len() - n_before == MAX_PLANNED {
            return Ok(None);
        }
        let only = step.mask.single();
        if only.is_some() && draft.front() != only.as_ref() {
            draft.clear();
        } else if only.is_none() && draft.is_empty() {
            let forced = self.matcher.forced_bytes_within(MAX_FORCED_BYTES);
            draft.extend(drafter.draft(&self.tokens, &forced));
        }
        let drafted = draft.pop_front();
        let Some(token) = only.or(drafted.filter(|&token| step.mask.is_allowed(token))) else {
            return Ok(None);
        };
        self.accept(token)?;
        if only.is_some() || self.fits() {
            return Ok(Some(token));
        }
        self.take_back(1);
        Ok(None)
    }

    /// Gives up planned tokens, of which the last led to a dead end, up to a step with another way; false if there is
    /// none after the first `n_before` tokens.
    fn avoid_dead_end(&mut self, n_before: usize) -> Result<bool, RequestError> {
        while self.tokens.len() > n_before {
            let mut step = self
                .ahead
                .pop_back()
                .expect("a step for each planned token");
            step.planned = None;
            self.refuse_last(&mut step)?;
            if !step.mask.is_empty() {
                self.ahead.push_back(step);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The step after what the matcher has taken; none at a dead end.
    fn find_step(&mut self) -> Result<Option<Step>, RequestError> {
        let mut mask = TokenMask::new(self.course.vocabulary.n_tokens());
        match self.matcher.mask(&mut mask) {
            Ok(()) => {}
            Err(GrammarError::NoToken) => return Ok(None),
            Err(error) => return Err(invalid(error)),
        }
        self.forbid_refused(&mut mask);
        let n_allowed = mask.n_allowed();
        if n_allowed == 0 {
            return Ok(None);
        }
        let n_tokens = self.course.vocabulary.n_tokens();
        let is_few = !self.course.wants_all && n_allowed <= n_tokens.div_ceil(PICKED_SHARE);
        let n_logits = self.course.n_logits;
        Ok(Some(Step {
            picked: is_few.then(|| match n_allowed {
                // Whatever its logit, it is chosen.
                1 => Vec::new(),
                _ => mask
                    .iter()
                    .take_while(|&token| (token as usize) < n_logits)
                    .collect(),
            }),
            mask,
            planned: None,
            is_settled: self.matcher.is_settled(),
        }))
    }

    fn forbid_refused(&self, mask: &mut TokenMask) {
        let here = self.tokens.len();
        let refused = self.refused.iter().filter(|&&(at, _)| at == here);
        refused.for_each(|&(_, token)| mask.forbid(token));
    }

    /// Refuses a token after those taken.
    fn refuse(&mut self, token: TokenId) -> Result<(), RequestError> {
        self.n_refused += 1;
        if self.n_refused > MAX_REFUSED {
            return Err(RequestError::Invalid(format!(
                "the output came to where nothing may follow, and {MAX_REFUSED} other ways led there too"
            )));
        }
        self.refused.push((self.tokens.len(), token));
        Ok(())
    }

    fn take_back(&mut self, n_tokens: usize) {
        self.matcher.rollback(n_tokens);
        self.tokens.truncate(self.tokens.len() - n_tokens);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(crate) fn invalid(error: GrammarError) -> RequestError {
    RequestError::Invalid(error.to_string())
}
