//! Values that are kept once each, and known by an index.
//!
//! They are found by their hash, which is taken once of each: a table with the values for keys takes it again whenever it
//! grows, and those of a schema are large.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::HashMap;
use foldhash::fast::RandomState;

/// Different values, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: Vec<Arc<T>>,
    /// By hash; of those whose hashes are alike, each further one by the next number that is free.
    ids: HashMap<u64, u32>,
    state: RandomState,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            ids: HashMap::default(),
            state: RandomState::default(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The index of a value, and whether it is new.
    pub(crate) fn add(&mut self, value: T) -> (u32, bool) {
        let mut key = self.state.hash_one(&value);
        while let Some(&id) = self.ids.get(&key) {
            if *self.values[id as usize] == value {
                return (id, false);
            }
            key = key.wrapping_add(1);
        }
        let id = self.values.len() as u32;
        self.ids.insert(key, id);
        self.values.push(Arc::new(value));
        (id, true)
    }
}

impl<T> Interner<T> {
    pub(crate) fn get(&self, id: u32) -> &Arc<T> {
        &self.values[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// All values, by their indices.
    pub(crate) fn into_values(self) -> Vec<Arc<T>> {
        self.values
    }
}
