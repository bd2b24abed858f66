//! Requests through an engine, timed by when their tokens come.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use lmrun_engine::{Event, Generate, Handle, Request, TokenId, Work};

use super::plan::{N_STEPS, Point};
use crate::failure::Failure;

/// An engine and what it is asked.
pub(super) struct Bench {
    handle: Handle,
    /// Tokens that stand for text.
    ordinary: Vec<TokenId>,
    /// Runs so far. Each is a namespace of the cache, so that it reads nothing of another.
    n_runs: Cell<u64>,
}

/// A token, or the end of a sequence.
enum Came {
    Token(usize, Instant),
    End(Result<(), String>),
}

impl Bench {
    pub(super) fn new(handle: Handle) -> Result<Self, Failure> {
        let vocabulary = handle.vocabulary();
        let ordinary: Vec<TokenId> = (0..vocabulary.n_tokens() as TokenId)
            .filter(|id| vocabulary.bytes(*id).is_some())
            .collect();
        if ordinary.is_empty() {
            return Err(Failure::backend(
                "the model has no token that stands for text",
            ));
        }
        Ok(Self {
            handle,
            ordinary,
            n_runs: Cell::new(0),
        })
    }

    /// Tokens a second of one run.
    pub(super) fn speed(&self, point: Point) -> Result<f64, Failure> {
        self.n_runs.update(|n_runs| n_runs + 1);
        if point.is_read_before() {
            self.times(point, 1)?;
        }
        let started = Instant::now();
        let times = self.times(point, point.shape().2)?;
        let speed = match point {
            Point::Prefill(n_tokens) => times[0]
                .first()
                .map(|first| n_tokens as f64 / (*first - started).as_secs_f64()),
            _ => decoded(&times),
        };
        speed.ok_or_else(|| Failure::backend("the engine ended a sequence early"))
    }

    /// When each sequence of a run had its tokens, of which each writes `n_written`.
    fn times(&self, point: Point, n_written: usize) -> Result<Vec<Vec<Instant>>, Failure> {
        let n_sequences = point.shape().0;
        let (sender, receiver) = mpsc::channel();
        for sequence_idx in 0..n_sequences {
            let request = self.request(point, sequence_idx, n_written);
            self.submit(request, sequence_idx, sender.clone())?;
        }
        drop(sender);
        let mut times = vec![Vec::with_capacity(n_written); n_sequences];
        for came in receiver {
            match came {
                Came::Token(sequence_idx, time) => times[sequence_idx].push(time),
                Came::End(end) => end.map_err(Failure::backend)?,
            }
        }
        Ok(times)
    }

    /// A greedy request whose prompt begins like no other of the run, or is another in its last token alone.
    fn request(&self, point: Point, sequence_idx: usize, n_written: usize) -> Request {
        let n_prompt = point.shape().1;
        let is_own = |i: usize| !matches!(point, Point::Shared(_)) || i + 1 == n_prompt;
        // Steps by a prime visit the tokens in an order without a pattern; no figure depends on what they are.
        let token = |i: usize| {
            let first = if is_own(i) { sequence_idx } else { 0 };
            self.ordinary[(first + i * 7919) % self.ordinary.len()]
        };
        let generate = Generate {
            max_tokens: Some(n_written),
            min_tokens: n_written,
            ..Generate::default()
        };
        Request {
            prompt: (0..n_prompt).map(token).collect(),
            namespace: self.n_runs.get(),
            work: Work::Generate(Box::new(generate)),
        }
    }

    fn submit(
        &self,
        request: Request,
        sequence_idx: usize,
        sender: Sender<Came>,
    ) -> Result<(), Failure> {
        let sink = move |event| {
            let came = match event {
                Event::Token(_) => Came::Token(sequence_idx, Instant::now()),
                Event::Finished(_) => Came::End(Ok(())),
                Event::Failed(error) => Came::End(Err(error.to_string())),
                _ => return ControlFlow::Continue(()),
            };
            match sender.send(came) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let submitted = self.handle.submit(request, Box::new(sink));
        submitted
            .map(|_| ())
            .map_err(|error| Failure::backend(error.to_string()))
    }
}

/// Tokens a second from when the last sequence had its first token, over [`N_STEPS`] steps; none if that many did not
/// come.
fn decoded(times: &[Vec<Instant>]) -> Option<f64> {
    let firsts: Option<Vec<Instant>> = times.iter().map(|times| times.first().copied()).collect();
    let started = firsts?.into_iter().max()?;
    let mut after: Vec<Instant> = times
        .iter()
        .flatten()
        .copied()
        .filter(|time| *time > started)
        .collect();
    after.sort_unstable();
    let n_tokens = times.len() * N_STEPS;
    let ended = after.get(n_tokens - 1)?;
    Some(n_tokens as f64 / (*ended - started).as_secs_f64())
}

#[cfg(test)]
mod tests;
