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

/// Numbers that are written only where they are not those that were written last: what is the same step after step ends no
/// segment of launches.
pub(super) struct Kept {
    /// None where none could be written yet.
    numbers: Option<Vec<u32>>,
    room: Room,
}

impl Kept {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self {
            numbers: None,
            room: Room::new(context),
        }
    }

    /// The memory that holds these numbers.
    pub(super) fn hold(&mut self, numbers: impl Iterator<Item = u32> + Clone) -> &Memory {
        let held = self.numbers.take();
        let held = held.filter(|held| held.iter().copied().eq(numbers.clone()));
        self.numbers = Some(held.unwrap_or_else(|| {
            let numbers: Vec<u32> = numbers.collect();
            self.room.put(&numbers);
            numbers
        }));
        self.room.held()
    }
}

/// The value, or the end of the step.
pub(super) fn must<T>(result: Result<T, CudaError>) -> T {
    result.unwrap_or_else(|error| panic!("the GPU failed: {error}"))
}
