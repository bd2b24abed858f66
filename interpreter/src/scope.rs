//! Names and what they are bound to.
//!
//! A scope is a stack of frames over an optional frozen one. Branches share what they can see of their parent: the
//! parent's frames are frozen while its branches run, which is what makes outer variables read-only in them, and are
//! thawed afterwards without a copy.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::envelope::GenRecord;

/// What a name is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    /// Its value.
    pub(crate) value: Arc<Value>,
    /// Whether it is a `var`.
    pub(crate) mutable: bool,
    /// The generation that bound it, which `scores`, `mass` and `logprob` ask for.
    pub(crate) record: Option<Arc<GenRecord>>,
}

/// The names of one block.
pub(crate) type Frame = HashMap<String, Binding>;

/// Frames that nobody can write to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frozen {
    frames: Vec<Frame>,
    outer: Option<Arc<Frozen>>,
}

/// The names that can be seen from a place.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// Never empty: the first frame is the function's or the branch's own.
    frames: Vec<Frame>,
    outer: Option<Arc<Frozen>>,
}

/// Why an assignment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AssignError {
    Undefined,
    Immutable,
    Outer,
}

impl Frozen {
    /// One frame, frozen: the program's inputs.
    pub(crate) fn of(frame: Frame) -> Arc<Self> {
        Arc::new(Self {
            frames: vec![frame],
            outer: None,
        })
    }

    fn find(&self, name: &str) -> Option<&Binding> {
        let own = self.frames.iter().rev().find_map(|frame| frame.get(name));
        own.or_else(|| self.outer.as_ref()?.find(name))
    }
}

impl Scope {
    /// An empty scope that sees `outer`.
    pub(crate) fn over(outer: Option<Arc<Frozen>>) -> Self {
        Self {
            frames: vec![Frame::new()],
            outer,
        }
    }

    /// What `name` is bound to.
    pub(crate) fn find(&self, name: &str) -> Option<&Binding> {
        let own = self.frames.iter().rev().find_map(|frame| frame.get(name));
        own.or_else(|| self.outer.as_ref()?.find(name))
    }

    /// Binds a name in the innermost block.
    pub(crate) fn bind(&mut self, name: &str, value: Value, mutable: bool) {
        let binding = Binding {
            value: Arc::new(value),
            mutable,
            record: None,
        };
        self.frames
            .last_mut()
            .expect("a scope has a frame")
            .insert(name.to_owned(), binding);
    }

    /// Binds a generation: seen from the whole function or branch, not only from its block.
    pub(crate) fn bind_generation(&mut self, name: &str, record: GenRecord) {
        let value = Arc::new(record.value.clone());
        let binding = Binding {
            value,
            mutable: false,
            record: Some(Arc::new(record)),
        };
        self.frames[0].insert(name.to_owned(), binding);
    }

    /// The variable `name`, to be written.
    pub(crate) fn variable(&mut self, name: &str) -> Result<&mut Arc<Value>, AssignError> {
        let found = self
            .frames
            .iter_mut()
            .rev()
            .find_map(|frame| frame.get_mut(name));
        match found {
            Some(binding) if binding.mutable => Ok(&mut binding.value),
            Some(_) => Err(AssignError::Immutable),
            None if self
                .outer
                .as_ref()
                .is_some_and(|outer| outer.find(name).is_some()) =>
            {
                Err(AssignError::Outer)
            }
            None => Err(AssignError::Undefined),
        }
    }

    /// How many blocks are open.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Opens a block.
    pub(crate) fn enter(&mut self) {
        self.frames.push(Frame::new());
    }

    /// Closes blocks until `depth` are open.
    pub(crate) fn leave_to(&mut self, depth: usize) {
        self.frames.truncate(depth.max(1));
    }

    /// A copy to come back to. Values are shared.
    pub(crate) fn snapshot(&self) -> Vec<Frame> {
        self.frames.clone()
    }

    /// Goes back to a copy.
    pub(crate) fn restore(&mut self, frames: Vec<Frame>) {
        self.frames = frames;
    }

    /// Freezes all frames, for branches to see.
    pub(crate) fn freeze(&mut self) -> Arc<Frozen> {
        let frames = std::mem::take(&mut self.frames);
        let frozen = Arc::new(Frozen {
            frames,
            outer: self.outer.take(),
        });
        self.outer = Some(Arc::clone(&frozen));
        frozen
    }

    /// Undoes the last [`Scope::freeze`]; without a copy once the branches are gone.
    pub(crate) fn thaw(&mut self) {
        let frozen = self
            .outer
            .take()
            .map(Arc::unwrap_or_clone)
            .unwrap_or_default();
        self.frames = frozen.frames;
        self.outer = frozen.outer;
    }

    /// The bindings of the outermost own frame: what a winning branch hands on.
    pub(crate) fn into_bindings(self) -> Frame {
        self.frames.into_iter().next().unwrap_or_default()
    }

    /// Takes over what a winning branch bound.
    pub(crate) fn adopt(&mut self, bindings: Frame) {
        for (name, binding) in bindings {
            let generated = binding.record.is_some();
            let frame = if generated {
                self.frames.first_mut()
            } else {
                self.frames.last_mut()
            };
            frame.expect("a scope has a frame").insert(name, binding);
        }
    }
}

#[cfg(test)]
mod tests;
