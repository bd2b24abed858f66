//! Memory of a GPU that is used again from one operation to the next.

use std::sync::Arc;

use super::CudaError;
use super::driver::{Context, Memory, Plain};

/// Memory that grows when more is asked for, and then forgets what it held.
pub(super) struct Room {
    context: Arc<Context>,
    memory: Option<Memory>,
}

impl Room {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            memory: None,
        }
    }

    /// At least `n_bytes`.
    pub(super) fn at_least(&mut self, n_bytes: usize) -> &Memory {
        if self
            .memory
            .as_ref()
            .is_none_or(|memory| memory.n_bytes() < n_bytes)
        {
            // The old memory goes first: there may not be enough for both.
            self.memory = None;
            self.memory = Some(must(self.context.allocate(n_bytes.next_power_of_two())));
        }
        self.held()
    }

    pub(super) fn held(&self) -> &Memory {
        self.memory.as_ref().expect("what is read has been written")
    }

    /// Holds these numbers.
    pub(super) fn put<T: Plain>(&mut self, values: &[T]) {
        must(self.at_least(size_of_val(values)).upload(values));
    }
}

/// The value, or the end of the step.
pub(super) fn must<T>(result: Result<T, CudaError>) -> T {
    result.unwrap_or_else(|error| panic!("the GPU failed: {error}"))
}
