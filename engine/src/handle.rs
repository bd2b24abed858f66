//! The door to the engine thread: a channel, cheap to clone, usable from any thread and any runtime.

use crate::request::{Request, RequestError, Sink};

/// Names a submitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// The door to the engine thread.
#[derive(Debug, Clone)]
pub struct Handle {}

impl Handle {
    /// Queues a request; its events go to `sink`. A request that can never run is refused here or with
    /// [`crate::Event::Failed`].
    pub fn submit(&self, request: Request, sink: Sink) -> Result<RequestId, RequestError> {
        let _ = (request, sink);
        Err(RequestError::ShuttingDown)
    }

    /// Ends a request; its pages are free within one step. Unknown and finished ids are ignored.
    pub fn cancel(&self, id: RequestId) {
        let _ = id;
    }
}
