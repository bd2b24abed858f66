//! Both sides of the channel to the engine thread: what callers do with it, and the thread's loop.
//!
//! A small state under one lock counts the queue and says whether the door is open. Submitting holds it while it sends,
//! so that the thread, once it has closed the door and emptied the channel, has seen every request that was accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::step::Core;
use crate::validate::{Prepared, RequestLimits};
use crate::{Request, RequestError, RequestId, Sink, Stats};

/// What the thread is told.
pub(crate) enum Message {
    Submit {
        id: RequestId,
        prepared: Box<Prepared>,
        sink: Sink,
    },
    Cancel(RequestId),
    /// End everything, now.
    Stop,
}

/// What both sides know.
#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    /// Accepted requests that have not started.
    n_queued: usize,
    /// Accepted requests that have not ended.
    n_alive: usize,
    stats: Stats,
}

/// The callers' side.
pub(crate) struct Door {
    sender: Sender<Message>,
    limits: RequestLimits,
    max_waiting: usize,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Signalled when the last request has ended.
    idle: Condvar,
}

impl Door {
    pub(crate) fn new(sender: Sender<Message>, limits: RequestLimits, max_waiting: usize) -> Self {
        Self {
            sender,
            limits,
            max_waiting,
            next_id: AtomicU64::new(1),
            state: Mutex::default(),
            idle: Condvar::new(),
        }
    }

    pub(crate) fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, RequestError> {
        self.check_open(&self.state())?;
        let prepared = Box::new(self.limits.prepare(request)?);
        let mut state = self.state();
        self.check_open(&state)?;
        // Under the lock, so that ids are in the order of the channel.
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let sent = self.sender.send(Message::Submit { id, prepared, sink });
        sent.map_err(|_| RequestError::ShuttingDown)?;
        state.n_queued += 1;
        state.n_alive += 1;
        Ok(id)
    }

    fn check_open(&self, state: &State) -> Result<(), RequestError> {
        if state.is_closed {
            return Err(RequestError::ShuttingDown);
        }
        let (given, limit) = (state.n_queued, self.max_waiting);
        if given < limit {
            Ok(())
        } else {
            Err(RequestError::QueueFull { given, limit })
        }
    }

    pub(crate) fn cancel(&self, id: RequestId) {
        // A thread that has ended has no requests left to cancel.
        let _ = self.sender.send(Message::Cancel(id));
    }

    pub(crate) fn stats(&self) -> Stats {
        self.state().stats
    }

    pub(crate) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Closes the door, waits until nothing is alive or the time is up, then tells the thread to end.
    pub(crate) fn drain_and_stop(&self, drain: Duration) {
        let deadline = Instant::now() + drain;
        let mut state = self.state();
        state.is_closed = true;
        while state.n_alive > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.idle.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        // A thread that has ended needs no telling.
        let _ = self.sender.send(Message::Stop);
    }

    /// Takes note of the core's counters.
    fn update(&self, core: &mut Core) {
        let stats = core.stats();
        let mut state = self.state();
        state.n_queued -= core.take_n_left_queue();
        state.n_alive -= (stats.n_ended - state.stats.n_ended) as usize;
        state.stats = stats;
        if state.n_alive == 0 {
            self.idle.notify_all();
        }
    }

    /// The state is a few counters, sound whatever panicked while they were held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine thread: takes messages, steps, sleeps when there is nothing to do, until it is told to stop.
pub(crate) fn run(mut core: Core, door: &Door, messages: &Receiver<Message>) {
    loop {
        if core.is_idle() {
            // The door holds a sender, so the channel never closes while this runs.
            let Ok(message) = messages.recv() else { return };
            if take(&mut core, message).is_none() {
                break;
            }
        }
        if messages
            .try_iter()
            .any(|message| take(&mut core, message).is_none())
        {
            break;
        }
        if !core.is_idle() {
            core.step();
        }
        door.update(&mut core);
        core.deliver();
    }
    door.close();
    for message in messages.try_iter() {
        let _ = take(&mut core, message);
    }
    core.fail_all(&RequestError::ShuttingDown);
    door.update(&mut core);
    core.deliver();
}

/// None when told to stop.
fn take(core: &mut Core, message: Message) -> Option<()> {
    match message {
        Message::Submit { id, prepared, sink } => core.add(id, *prepared, sink),
        Message::Cancel(id) => core.cancel(id),
        Message::Stop => return None,
    }
    Some(())
}
