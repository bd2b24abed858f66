//! The engine without its thread: jobs, the scheduler and the decoder, advanced step by step.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lmrun_kernels::{Adjustment, Draw, Drawn};
use lmrun_model::{Batch, Decoder, Logits, ModelError, Pick, Span};

use crate::generation::{Advance, Change, Generation, Tally};
use crate::memory::Memory;
use crate::row::Row;
use crate::scheduler::{Limits, Plan, PlannedSpan, Scheduler, Sequence};
use crate::validate::{Prepared, Task};
use crate::{Event, FinishReason, Finished, RequestError, RequestId, Sink, Stats, Usage};

/// A submitted request.
struct Job {
    task: Task,
    sink: Sink,
    usage: Usage,
    tally: Tally,
    is_started: bool,
    /// Nobody listens to it.
    is_abandoned: bool,
}

/// Everything the engine thread owns.
pub(crate) struct Core {
    decoder: Box<dyn Decoder>,
    pub(crate) scheduler: Scheduler,
    prefix_cache: bool,
    jobs: BTreeMap<RequestId, Job>,
    totals: Stats,
    /// Pages evicted by memories that a failure has replaced.
    n_evicted_before: u64,
    n_left_queue: usize,
    /// Last events that were not delivered yet.
    farewells: Vec<(Sink, Event)>,
    /// A row in which picked logits stand among negative infinity. `[n_vocab]`
    sparse_row: Vec<f32>,
}

/// The rows of one step.
struct StepRows {
    logits: Logits,
    /// What was drawn first of each row that the decoder holds. `[n_rows]`
    drawn: Vec<Option<Drawn>>,
}

/// What one step leaves to be told.
struct Told {
    id: RequestId,
    event: Event,
}

impl Core {
    pub(crate) fn new(decoder: Box<dyn Decoder>, limits: Limits, prefix_cache: bool) -> Self {
        let memory = Memory::new(decoder.n_pages(), decoder.page_size(), prefix_cache);
        Self {
            sparse_row: vec![f32::NEG_INFINITY; decoder.config().n_vocab],
            decoder,
            scheduler: Scheduler::new(limits, memory),
            prefix_cache,
            jobs: BTreeMap::new(),
            totals: Stats::default(),
            n_evicted_before: 0,
            n_left_queue: 0,
            farewells: Vec::new(),
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Requests that have left the queue, started or not, since this was last asked.
    pub(crate) fn take_n_left_queue(&mut self) -> usize {
        std::mem::take(&mut self.n_left_queue)
    }

    /// Takes a request on.
    pub(crate) fn add(&mut self, id: RequestId, prepared: Prepared, sink: Sink) {
        let Prepared {
            namespace,
            n_prompt,
            lanes,
            n_left,
            task,
        } = prepared;
        let usage = Usage {
            n_prompt,
            ..Usage::default()
        };
        self.jobs.insert(
            id,
            Job {
                task,
                sink,
                usage,
                tally: Tally::default(),
                is_started: false,
                is_abandoned: false,
            },
        );
        self.scheduler
            .add(Sequence::new(id, namespace, lanes, n_left));
        self.totals.n_requests += 1;
    }

    /// Ends a request with [`FinishReason::Cancelled`]; unknown ids are ignored.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let event = Event::Finished(finished(job, FinishReason::Cancelled));
            self.end(id, event);
        }
    }

    /// Ends everything with an error.
    pub(crate) fn fail_all(&mut self, error: &RequestError) {
        let ids: Vec<RequestId> = self.jobs.keys().copied().collect();
        ids.into_iter()
            .for_each(|id| self.end(id, Event::Failed(error.clone())));
    }

    /// Delivers the last events of ended requests. Apart from what ends them, so that whoever hears of an end finds the
    /// counters as they are after it.
    pub(crate) fn deliver(&mut self) {
        for (mut sink, event) in self.farewells.drain(..) {
            // Nothing more would be told anyway.
            let _ = call(&mut sink, event);
        }
    }

    /// Counters as of now.
    pub(crate) fn stats(&self) -> Stats {
        let memory = self.scheduler.memory();
        Stats {
            n_running: self.scheduler.n_running(),
            n_waiting: self.scheduler.n_waiting(),
            n_pages_free: memory.n_free(),
            n_pages_cached: memory.n_cached(),
            n_pages_held: self.scheduler.n_held(),
            n_pages_total: memory.n_pages(),
            page_size: memory.page_size(),
            n_computed_tokens: self.scheduler.n_processed(),
            n_preemptions: self.scheduler.n_preemptions(),
            n_pages_evicted: self.n_evicted_before + memory.n_evicted(),
            ..self.totals
        }
    }

    /// One step: plan, compute, sample, tell. A panic or an error on the way fails the requests of its batch, and only
    /// them; all pages are then computed anew.
    pub(crate) fn step(&mut self) {
        let planned = catch_unwind(AssertUnwindSafe(|| self.scheduler.plan()));
        let Ok(plan) = planned else {
            // The scheduler's own state is not to be trusted: nobody survives.
            let everyone: Vec<RequestId> = self.jobs.keys().copied().collect();
            return self.recover(&everyone);
        };
        for &(id, n_cached) in &plan.started {
            self.note_start(id, n_cached);
        }
        if let Some(id) = plan.stuck {
            let memory = self.scheduler.memory();
            let limit = memory.n_pages() * memory.page_size();
            let error = RequestError::PoolTooSmall {
                given: limit + 1,
                limit,
            };
            self.end(id, Event::Failed(error));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(&plan)));
        match outcome {
            Ok(Ok(told)) => {
                told.into_iter()
                    .for_each(|Told { id, event }| self.tell(id, event));
                self.finish_done(&plan);
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::error!(%error, "a step failed");
                }
                let mut lost: Vec<RequestId> = plan.spans.iter().map(|span| span.id).collect();
                lost.extend(&plan.done);
                lost.dedup();
                self.recover(&lost);
            }
        }
    }

    /// Copies, computes, and samples.
    fn run(&mut self, plan: &Plan) -> Result<Vec<Told>, ModelError> {
        for copy in &plan.copies {
            self.decoder
                .copy_page(copy.from.0, copy.to.0, copy.n_tokens);
        }
        if plan.spans.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = self.forward(&plan.spans)?;
        self.totals.n_steps += 1;
        self.scheduler.complete(plan);
        let mut told = Vec::new();
        let mut row_idx = 0;
        for span in &plan.spans {
            for offset in span.outputs.offsets(span.n_tokens) {
                self.read_row(span, span.start + offset, (&mut rows, row_idx), &mut told);
                row_idx += 1;
            }
        }
        Ok(told)
    }

    /// Computes, and draws a first time from every row that the decoder holds.
    fn forward(&mut self, spans: &[PlannedSpan]) -> Result<StepRows, ModelError> {
        let tables: Vec<Vec<u32>> = spans
            .iter()
            .map(|span| self.scheduler.lane(span.id, span.lane_idx))
            .map(|lane| lane.pages.iter().map(|page| page.0).collect())
            .collect();
        let scheduler = &self.scheduler;
        let wanted: Vec<(RequestId, usize)> = spans
            .iter()
            .flat_map(|span| {
                let positions = span.outputs.offsets(span.n_tokens);
                positions.map(move |offset| (span.id, span.start + offset))
            })
            .collect();
        let picks: Vec<Pick<'_>> = wanted
            .iter()
            .map(|&(id, position)| match &self.jobs[&id].task {
                Task::Generate(generation) => generation.pick(position),
                Task::Score(_) | Task::Publish => Pick::All,
            })
            .collect();
        let spans = spans.iter().zip(&tables).map(|(span, pages)| {
            let lane = scheduler.lane(span.id, span.lane_idx);
            let first = span.start - lane.start;
            let tokens = &lane.tokens[first..first + span.n_tokens];
            Span {
                tokens,
                start: span.start,
                pages,
                outputs: span.outputs,
            }
        });
        let batch = Batch {
            spans: spans.collect(),
        };
        let logits = self.decoder.forward_picked(&batch, &picks)?;
        let is_held = |row_idx: &usize| matches!(picks[*row_idx], Pick::Held);
        let held: Vec<usize> = (0..picks.len()).filter(is_held).collect();
        let drawn = self.draw_first(&wanted, &held);
        Ok(StepRows { logits, drawn })
    }

    /// The first draws from the rows `held` of those `wanted`, which are of generations.
    fn draw_first(&mut self, wanted: &[(RequestId, usize)], held: &[usize]) -> Vec<Option<Drawn>> {
        let of_row = |row_idx: usize| {
            let (id, position) = wanted[row_idx];
            match &self.jobs[&id].task {
                Task::Generate(generation) => (generation, position),
                Task::Score(_) | Task::Publish => unreachable!("only generations draw"),
            }
        };
        let adjustments: Vec<Vec<Adjustment>> = held
            .iter()
            .map(|&row_idx| of_row(row_idx))
            .map(|(generation, position)| generation.adjustments(position))
            .collect();
        let draws: Vec<Draw<'_>> = held
            .iter()
            .zip(&adjustments)
            .map(|(&row_idx, adjustments)| {
                let (generation, position) = of_row(row_idx);
                generation.first_draw(row_idx, position, adjustments)
            })
            .collect();
        let mut drawn = vec![None; wanted.len()];
        for (&row_idx, one) in held.iter().zip(self.decoder.draw(&draws)) {
            drawn[row_idx] = Some(one);
        }
        drawn
    }

    /// Hands a row of a step to its request.
    fn read_row(
        &mut self,
        span: &PlannedSpan,
        position: usize,
        (rows, row_idx): (&mut StepRows, usize),
        told: &mut Vec<Told>,
    ) {
        let id = span.id;
        let job = self.jobs.get_mut(&id).expect("planned sequences have jobs");
        match &mut job.task {
            Task::Publish => {}
            Task::Score(scoring) => {
                let lane = self.scheduler.lane(id, span.lane_idx);
                let row = rows.logits.row_mut(row_idx);
                scoring.read(span.lane_idx, position - lane.logits_from, row);
            }
            Task::Generate(generation) => {
                // Rows after the end of an output, or of tokens that were not chosen, are nobody's.
                let has_ended = told
                    .last()
                    .is_some_and(|told| told.id == id && is_last(&told.event));
                let is_dropped = self.scheduler.n_computed(id).is_none_or(|n| position >= n);
                if has_ended || is_dropped {
                    return;
                }
                debug_assert_eq!(position, generation.next_position(), "rows come in order");
                let advanced = match rows.drawn[row_idx] {
                    Some(first) => generation.advance(&mut Row::Held {
                        decoder: &mut *self.decoder,
                        row_idx,
                        first: Some(first),
                    }),
                    None => {
                        let row = rows.logits.row_mut(row_idx);
                        advance(generation, position, row, &mut self.sparse_row)
                    }
                };
                self.follow(id, advanced, told);
            }
        }
    }

    /// Does what a row of a generation's logits led to.
    fn follow(
        &mut self,
        id: RequestId,
        advanced: Result<Advance, RequestError>,
        told: &mut Vec<Told>,
    ) {
        let job = self.jobs.get_mut(&id).expect("planned sequences have jobs");
        let Task::Generate(generation) = &mut job.task else {
            unreachable!("only generations advance")
        };
        let tally = generation.tally();
        self.totals.n_unplanned_tokens += (tally.n_unplanned - job.tally.n_unplanned) as u64;
        self.totals.n_rollbacks += (tally.n_rollbacks - job.tally.n_rollbacks) as u64;
        job.tally = tally;
        job.usage.n_generated = generation.n_told();
        job.usage.n_forced = tally.n_forced;
        let next_position = generation.next_position();
        let Advance {
            tokens,
            change,
            finished: end,
        } = match advanced {
            Ok(advance) => advance,
            Err(error) => {
                let event = Event::Failed(error);
                return told.push(Told { id, event });
            }
        };
        for token in tokens {
            self.totals.n_generated_tokens += 1;
            self.totals.n_forced_tokens += u64::from(token.forced);
            let event = Event::Token(token);
            told.push(Told { id, event });
        }
        if let Some(reason) = end {
            let event = Event::Finished(finished(job, reason));
            return told.push(Told { id, event });
        }
        match change {
            Change::None => self.scheduler.extend(id, &[], next_position),
            Change::Follow(tokens) => {
                self.scheduler.cut(id, next_position);
                self.scheduler.extend(id, &tokens, next_position);
            }
            Change::Rewind(end) => self.scheduler.rewind(id, end),
        }
    }

    /// Ends the requests of a step that nobody listens to, and the scoring and publishing ones that it completed.
    fn finish_done(&mut self, plan: &Plan) {
        let mut ids: Vec<RequestId> = plan.spans.iter().map(|span| span.id).collect();
        ids.extend(&plan.done);
        ids.dedup();
        for id in ids {
            if self.jobs.get(&id).is_some_and(|job| job.is_abandoned) {
                self.forget(id);
            }
            let is_computed =
                plan.done.contains(&id) || self.scheduler.is_computed(id).unwrap_or(false);
            let Some(job) = self.jobs.get_mut(&id).filter(|_| is_computed) else {
                continue;
            };
            let usage = job.usage;
            match &mut job.task {
                Task::Publish => self.end(id, Event::Published { usage }),
                Task::Score(scoring) if scoring.is_complete() => {
                    let logprobs = scoring.take_logprobs();
                    self.end(id, Event::Scored { logprobs, usage });
                }
                Task::Score(_) | Task::Generate(_) => {}
            }
        }
    }

    fn note_start(&mut self, id: RequestId, n_cached: usize) {
        let job = self
            .jobs
            .get_mut(&id)
            .expect("admitted sequences have jobs");
        if job.is_started {
            return;
        }
        job.is_started = true;
        job.usage.n_cached = n_cached;
        self.totals.n_prompt_tokens += job.usage.n_prompt as u64;
        self.totals.n_cached_tokens += n_cached as u64;
        self.n_left_queue += 1;
        // It cannot end here: the plan names it.
        job.is_abandoned = call(&mut job.sink, Event::Started { n_cached }).is_break();
    }

    /// Tells an event; ends the request if it was the last one.
    fn tell(&mut self, id: RequestId, event: Event) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if is_last(&event) {
            self.end(id, event);
        } else if !job.is_abandoned {
            job.is_abandoned = call(&mut job.sink, event).is_break();
        }
    }

    /// Drops a request; its last event waits for [`Core::deliver`].
    fn end(&mut self, id: RequestId, event: Event) {
        if let Some(job) = self.forget(id).filter(|job| !job.is_abandoned) {
            self.farewells.push((job.sink, event));
        }
    }

    /// Drops a request; its pages are free or evictable at once.
    fn forget(&mut self, id: RequestId) -> Option<Job> {
        self.scheduler.remove(id);
        let job = self.jobs.remove(&id)?;
        self.totals.n_ended += 1;
        self.n_left_queue += usize::from(!job.is_started);
        Some(job)
    }

    /// After a failed step: its requests end, the pages are all forgotten, the others compute theirs again.
    fn recover(&mut self, lost: &[RequestId]) {
        self.totals.n_failed_steps += 1;
        let old = self.scheduler.memory();
        self.n_evicted_before += old.n_evicted();
        let memory = Memory::new(old.n_pages(), old.page_size(), self.prefix_cache);
        self.scheduler.rebuild(lost, memory);
        lost.iter()
            .for_each(|&id| self.end(id, Event::Failed(RequestError::Internal)));
    }
}

/// Lets a generation read the logits after `position`, as it picked them. `sparse` is left as it was: all negative
/// infinity.
fn advance(
    generation: &mut Generation,
    position: usize,
    row: &mut [f32],
    sparse: &mut [f32],
) -> Result<Advance, RequestError> {
    let Pick::Tokens(picked) = generation.pick(position) else {
        return generation.advance(&mut Row::Here(row));
    };
    let picked = picked.to_vec();
    for (&token, &logit) in picked.iter().zip(&*row) {
        sparse[token as usize] = logit;
    }
    let advanced = generation.advance(&mut Row::Here(sparse));
    for token in picked {
        sparse[token as usize] = f32::NEG_INFINITY;
    }
    advanced
}

/// What a generation amounts to, or any other request that was cancelled.
fn finished(job: &mut Job, reason: FinishReason) -> Finished {
    let (text, tokens) = match &mut job.task {
        Task::Generate(generation) => (generation.finish(), generation.tokens().to_vec()),
        Task::Score(_) | Task::Publish => (String::new(), Vec::new()),
    };
    Finished {
        reason,
        text,
        tokens,
        usage: job.usage,
    }
}

/// Whether nothing follows an event.
fn is_last(event: &Event) -> bool {
    !matches!(event, Event::Started { .. } | Event::Token(_))
}

/// Calls a sink. One that panics listens no more.
fn call(sink: &mut Sink, event: Event) -> ControlFlow<()> {
    catch_unwind(AssertUnwindSafe(|| sink(event))).unwrap_or(ControlFlow::Break(()))
}
