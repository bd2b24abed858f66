//! Names and seeds where a client gives none. They must differ, not withstand an adversary.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A number unlike the others: the standard library keys each hasher differently.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// An identifier like `call_3f0c...`: the prefix and 24 hexadecimal digits.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", number(), number() >> 32)
}
