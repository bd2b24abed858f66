//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lmrun_interpreter::Backend;
use tokio::sync::{Semaphore, watch};

use crate::health::Readiness;
use crate::metrics::Metrics;
use crate::model::{Model, special_texts};
use crate::options::ServerOptions;

/// Requests prepared at once: compiling a stranger's schema is the one costly thing before the engine.
const N_PREPARING: usize = 2;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It admits requests.
    Serving,
    /// It finishes what it admitted.
    Draining,
    /// What still runs ends now.
    Ending,
}

/// The server's state; clones share it.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: ServerOptions,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) backend: Arc<dyn Backend>,
    /// The texts of the model's special tokens, longest first.
    pub(crate) specials: Vec<String>,
    /// One permit a running program.
    pub(crate) programs: Arc<Semaphore>,
    pub(crate) preparing: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Seconds since 1970 at which the server started.
    pub(crate) started: u64,
    phase: watch::Sender<Phase>,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(
        model: Arc<dyn Model>,
        backend: Arc<dyn Backend>,
        options: ServerOptions,
    ) -> Self {
        Self(Arc::new(Shared {
            specials: special_texts(model.as_ref()),
            metrics: Metrics::new(&model),
            programs: Arc::new(Semaphore::new(options.max_programs)),
            preparing: Arc::new(Semaphore::new(N_PREPARING)),
            readiness: Readiness::default(),
            started: now(),
            phase: watch::Sender::new(Phase::Serving),
            options,
            model,
            backend,
        }))
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Moves on to `phase`; the phases only go forward.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let moves = *current < phase;
            *current = phase.max(*current);
            moves
        });
    }

    /// Waits until what still runs has to end. The future keeps the state alive and borrows nothing.
    pub(crate) fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.phase.subscribe();
        async move {
            // The sender cannot be gone before the phase: then there is no server left to wait for.
            let _ = phase.wait_for(|&phase| phase == Phase::Ending).await;
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
