//! The door to the engine thread: a channel, cheap to clone, usable from any thread and any runtime.

use std::sync::Arc;

use lmrun_grammar::Vocabulary;
use lmrun_model::{ChatTemplate, Tokenizer};

use crate::door::Door;
use crate::info::ModelInfo;
use crate::request::{Request, RequestError, Sink};
use crate::stats::Stats;

/// Names a submitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// The immutable facts about a loaded model that callers ask for.
pub(crate) struct Loaded {
    pub(crate) info: ModelInfo,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) chat_template: Option<ChatTemplate>,
}

/// The door to the engine thread.
#[derive(Clone)]
pub struct Handle {
    loaded: Arc<Loaded>,
    door: Arc<Door>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Handle")
            .field("info", self.info())
            .finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(loaded: Arc<Loaded>, door: Arc<Door>) -> Self {
        Self { loaded, door }
    }

    /// Queues a request; its events go to `sink`. A constraint's first mask is found here, on the caller's thread.
    ///
    /// # Errors
    /// A request that can never run, [`RequestError::QueueFull`] and [`RequestError::ShuttingDown`]; the sink is then
    /// never called. What shows later comes as [`crate::Event::Failed`].
    pub fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, RequestError> {
        self.door.submit(request, sink)
    }

    /// Ends a request; its pages are free within one step. Unknown and finished ids are ignored.
    pub fn cancel(&self, id: RequestId) {
        self.door.cancel(id);
    }

    /// What is loaded.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.loaded.info
    }

    /// The checkpoint's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.loaded.tokenizer
    }

    /// The tokenizer's tokens as constraints see them.
    #[must_use]
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.loaded.vocabulary
    }

    /// The checkpoint's chat template, if it has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.loaded.chat_template.as_ref()
    }

    /// The counters after the last step.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.door.stats()
    }

    /// Stops admission: what was submitted runs to its end, what comes is refused.
    pub fn begin_shutdown(&self) {
        self.door.close();
    }
}
