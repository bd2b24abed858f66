//! Constraints kept between requests: agents send the same schema again and again, and its
//! automata and masks are worth more than its text.
//!
//! The cache counts bytes, not constraints, for one may hold a kilobyte and another some tens of
//! megabytes, and grows while it is used. What was used longest ago goes first, with one exception: constraints used once
//! may push out those used again only until they hold a share of the bytes, so that a client who sends thousands of schemas
//! does not take from the others what they come back to (Johnson and Shasha's 2Q, 1994).

use std::sync::{Mutex, PoisonError};

use foldhash::{HashMap, HashMapExt};

use crate::Constraint;

/// The share of the bytes that constraints used once may take from others: one part in so many.
const PASSING_SHARE: usize = 4;

/// Constraints by a key that tells their sources and options apart. Shared between threads.
#[derive(Debug)]
pub struct ConstraintCache {
    kept: Mutex<Kept>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// Of all entries, as each was last counted.
    n_bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    constraint: Constraint,
    n_bytes: usize,
    last_used: u64,
    /// Whether it was asked for after it was made.
    is_used_again: bool,
}

impl ConstraintCache {
    /// An empty cache of at most `max_bytes`, counted roughly.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            kept: Mutex::new(Kept {
                entries: HashMap::new(),
                n_bytes: 0,
                clock: 0,
            }),
            max_bytes,
        }
    }

    /// The constraint of `key`, made by `compile` if it is not there. What fails is not kept. Other
    /// threads are not held up while it is made, so two may make the same one at once.
    ///
    /// # Errors
    /// Those of `compile`.
    pub fn get_or_compile<E>(
        &self,
        key: &str,
        compile: impl FnOnce() -> Result<Constraint, E>,
    ) -> Result<Constraint, E> {
        if let Some(known) = self.locked(|kept| kept.get(key, self.max_bytes)) {
            return Ok(known);
        }
        let constraint = compile()?;
        self.locked(|kept| kept.insert(key, constraint.clone(), self.max_bytes));
        Ok(constraint)
    }

    /// How many constraints are kept, and their bytes as they were last counted.
    pub fn usage(&self) -> (usize, usize) {
        self.locked(|kept| (kept.entries.len(), kept.n_bytes))
    }

    fn locked<T>(&self, operation: impl FnOnce(&mut Kept) -> T) -> T {
        operation(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn get(&mut self, key: &str, max_bytes: usize) -> Option<Constraint> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.last_used = self.clock;
        entry.is_used_again = true;
        let constraint = entry.constraint.clone();
        // It has grown with what it was used for.
        let n_bytes = key.len() + constraint.n_bytes();
        self.n_bytes = self.n_bytes - entry.n_bytes + n_bytes;
        entry.n_bytes = n_bytes;
        self.shrink(max_bytes);
        Some(constraint)
    }

    fn insert(&mut self, key: &str, constraint: Constraint, max_bytes: usize) {
        self.clock += 1;
        let n_bytes = key.len() + constraint.n_bytes();
        self.n_bytes += n_bytes;
        let entry = Entry {
            constraint,
            n_bytes,
            last_used: self.clock,
            is_used_again: self.entries.contains_key(key),
        };
        if let Some(before) = self.entries.insert(key.to_owned(), entry) {
            self.n_bytes -= before.n_bytes;
        }
        self.shrink(max_bytes);
    }

    fn shrink(&mut self, max_bytes: usize) {
        while self.n_bytes > max_bytes {
            let passing = self.entries.values().filter(|entry| !entry.is_used_again);
            let n_passing: usize = passing.map(|entry| entry.n_bytes).sum();
            let spares_used_again = n_passing > max_bytes / PASSING_SHARE;
            let may_go =
                |(_, entry): &(&String, &Entry)| !(spares_used_again && entry.is_used_again);
            let candidates = self.entries.iter().filter(may_go);
            let oldest = candidates.min_by_key(|(_, entry)| entry.last_used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            let entry = self.entries.remove(&key).expect("the key is of an entry");
            self.n_bytes -= entry.n_bytes;
        }
    }
}
