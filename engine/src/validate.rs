//! Requests to what the engine runs, or to the reason why it cannot. Runs on the caller's thread.

use std::sync::Arc;

use lmrun_grammar::Vocabulary;

use crate::draft::Drafter;
use crate::generation::Generation;
use crate::guide::Course;
use crate::scheduler::{Lane, NO_LOGITS};
use crate::score::Scoring;
use crate::{Generate, Request, RequestError, Sampling, TokenId, Work};

/// The most alternatives reported with a token.
const MAX_TOP_LOGPROBS: usize = 20;
/// The most stop strings, and the most bytes of one.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 1024;
/// The most continuations scored together, and the most logit biases.
const MAX_CONTINUATIONS: usize = 4096;
const MAX_BIASES: usize = 4096;

/// What every request is held against.
#[derive(Debug, Clone)]
pub(crate) struct RequestLimits {
    pub(crate) context_length: usize,
    pub(crate) page_size: usize,
    pub(crate) n_pages: usize,
    /// Rows of the embedding: ids at or above this have no logits.
    pub(crate) n_logits: usize,
    pub(crate) vocabulary: Arc<Vocabulary>,
    /// None if nothing is planned ahead.
    pub(crate) drafter: Option<Arc<Drafter>>,
}

/// The kinds of work in progress.
#[derive(Debug)]
pub(crate) enum Task {
    Generate(Box<Generation>),
    Score(Scoring),
    Publish,
}

/// A request that can run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) namespace: u64,
    pub(crate) n_prompt: usize,
    pub(crate) lanes: Vec<Lane>,
    /// Output tokens that may come.
    pub(crate) n_left: usize,
    pub(crate) task: Task,
}

impl RequestLimits {
    /// Checks a request against every limit and makes it ready to run.
    ///
    /// # Errors
    /// Everything but `QueueFull`, `ShuttingDown` and `Internal`.
    pub(crate) fn prepare(&self, request: Request) -> Result<Prepared, RequestError> {
        let Request {
            prompt,
            namespace,
            work,
        } = request;
        let n_prompt = prompt.len();
        if prompt.is_empty() {
            return Err(RequestError::Invalid("the prompt is empty".into()));
        }
        self.check_tokens("the prompt", &prompt)?;
        self.check_context(n_prompt)?;
        match work {
            Work::Generate(generate) => self.prepare_generation(prompt, namespace, *generate),
            Work::Score(continuations) => self.prepare_scoring(prompt, namespace, &continuations),
            Work::Publish => {
                self.check_pages(n_prompt.div_ceil(self.page_size))?;
                let lanes = vec![Lane::new(None, 0, prompt, NO_LOGITS)];
                Ok(Prepared {
                    namespace,
                    n_prompt,
                    lanes,
                    n_left: 0,
                    task: Task::Publish,
                })
            }
        }
    }

    fn prepare_generation(
        &self,
        prompt: Vec<TokenId>,
        namespace: u64,
        generate: Generate,
    ) -> Result<Prepared, RequestError> {
        let n_prompt = prompt.len();
        self.check_generate(&generate)?;
        let n_pool = self.n_pages * self.page_size;
        let limit = match generate.max_tokens {
            Some(n_most) => {
                self.check_context(n_prompt.saturating_add(n_most))?;
                self.check_pages((n_prompt + n_most).div_ceil(self.page_size))?;
                n_most
            }
            None => {
                self.check_pages((n_prompt + 1).div_ceil(self.page_size))?;
                self.context_length.min(n_pool) - n_prompt
            }
        };
        let course = Course {
            vocabulary: Arc::clone(&self.vocabulary),
            drafter: self.drafter.clone(),
            n_logits: self.n_logits,
            limit,
            wants_all: !generate.without_logprobs,
        };
        let (generation, planned) = Generation::new(generate, &prompt, course)?;
        let n_left = limit - planned.len();
        let mut tokens = prompt;
        tokens.extend(planned);
        let lanes = vec![Lane::new(None, 0, tokens, n_prompt - 1)];
        let task = Task::Generate(Box::new(generation));
        Ok(Prepared {
            namespace,
            n_prompt,
            lanes,
            n_left,
            task,
        })
    }

    fn prepare_scoring(
        &self,
        prompt: Vec<TokenId>,
        namespace: u64,
        continuations: &[Vec<TokenId>],
    ) -> Result<Prepared, RequestError> {
        let n_prompt = prompt.len();
        check_at_most("continuations", continuations.len(), MAX_CONTINUATIONS)?;
        for tokens in continuations {
            self.check_tokens("a continuation", tokens)?;
            self.check_context(n_prompt + tokens.len())?;
        }
        let (scoring, lanes) = Scoring::new(prompt, continuations);
        let pages = lanes
            .iter()
            .map(|lane| lane.end().div_ceil(self.page_size) - lane.start / self.page_size);
        self.check_pages(pages.sum())?;
        Ok(Prepared {
            namespace,
            n_prompt,
            lanes,
            n_left: 0,
            task: Task::Score(scoring),
        })
    }

    fn check_tokens(&self, what: &str, tokens: &[TokenId]) -> Result<(), RequestError> {
        let n_tokens = self.vocabulary.n_tokens().min(self.n_logits);
        match tokens.iter().find(|&&token| token as usize >= n_tokens) {
            None => Ok(()),
            Some(token) => Err(RequestError::Invalid(format!(
                "{what} holds token {token}, the vocabulary has {n_tokens}"
            ))),
        }
    }

    fn check_context(&self, given: usize) -> Result<(), RequestError> {
        let limit = self.context_length;
        if given <= limit {
            Ok(())
        } else {
            Err(RequestError::ContextLength { given, limit })
        }
    }

    fn check_pages(&self, n_pages: usize) -> Result<(), RequestError> {
        if n_pages <= self.n_pages {
            return Ok(());
        }
        let (given, limit) = (n_pages * self.page_size, self.n_pages * self.page_size);
        Err(RequestError::PoolTooSmall { given, limit })
    }

    fn check_generate(&self, generate: &Generate) -> Result<(), RequestError> {
        check_at_most("n_top_logprobs", generate.n_top_logprobs, MAX_TOP_LOGPROBS)?;
        if generate.without_logprobs && generate.n_top_logprobs > 0 {
            let given = generate.n_top_logprobs;
            return Err(RequestError::Invalid(format!(
                "n_top_logprobs is {given}, without_logprobs allows 0"
            )));
        }
        check_at_most("stop strings", generate.stop.len(), MAX_STOPS)?;
        for stop in &generate.stop {
            check_at_most("bytes of a stop string", stop.len(), MAX_STOP_BYTES)?;
            if stop.is_empty() {
                return Err(RequestError::Invalid("a stop string is empty".into()));
            }
        }
        let sampling = &generate.sampling;
        check_at_most("logit biases", sampling.logit_bias.len(), MAX_BIASES)?;
        for &(token, bias) in &sampling.logit_bias {
            self.check_tokens("logit_bias", &[token])?;
            check_range("a logit bias", bias, f32::MIN..=f32::MAX)?;
        }
        check_sampling(sampling)
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), RequestError> {
    let penalties = f32::MIN..=f32::MAX;
    check_range("temperature", sampling.temperature, 0.0..=f32::MAX)?;
    check_range("top_p", sampling.top_p, f32::MIN_POSITIVE..=1.0)?;
    check_range("min_p", sampling.min_p, 0.0..=1.0)?;
    check_range(
        "repetition_penalty",
        sampling.repetition_penalty,
        f32::MIN_POSITIVE..=f32::MAX,
    )?;
    check_range(
        "presence_penalty",
        sampling.presence_penalty,
        penalties.clone(),
    )?;
    check_range("frequency_penalty", sampling.frequency_penalty, penalties)
}

fn check_range(
    name: &str,
    given: f32,
    range: std::ops::RangeInclusive<f32>,
) -> Result<(), RequestError> {
    if range.contains(&given) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let bound = match (least, most) {
        (f32::MIN, _) => "it must be a finite number".to_owned(),
        (0.0, f32::MAX) => "it must be at least 0".to_owned(),
        (f32::MIN_POSITIVE, f32::MAX) => "it must be above 0".to_owned(),
        (f32::MIN_POSITIVE, most) => format!("it must be above 0 and at most {most}"),
        (least, most) => format!("it must be from {least} to {most}"),
    };
    Err(RequestError::Invalid(format!("{name} is {given}, {bound}")))
}

fn check_at_most(what: &str, given: usize, limit: usize) -> Result<(), RequestError> {
    if given <= limit {
        return Ok(());
    }
    Err(RequestError::Invalid(format!(
        "{given} {what}, the limit is {limit}"
    )))
}
