//! Masks remembered by automaton state, within a limit of bytes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::{TokenMask, Vocabulary};

/// Bytes of bookkeeping an entry, beside its mask.
const ENTRY_BYTES: usize = 128;

/// Masks by vocabulary and key. When full it forgets everything: a mask can always be found again.
#[derive(Debug)]
pub(crate) struct MaskMemo<K> {
    masks: HashMap<(u64, K), Arc<TokenMask>>,
    n_bytes: usize,
    max_bytes: usize,
}

impl<K: Hash + Eq> MaskMemo<K> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            masks: HashMap::new(),
            n_bytes: 0,
            max_bytes,
        }
    }

    pub(crate) fn get(&self, vocabulary: &Vocabulary, key: K) -> Option<Arc<TokenMask>> {
        self.masks.get(&(vocabulary.id(), key)).cloned()
    }

    pub(crate) fn insert(&mut self, vocabulary: &Vocabulary, key: K, mask: &Arc<TokenMask>) {
        let entry_bytes = mask.n_bytes() + size_of::<(u64, K)>() + ENTRY_BYTES;
        if self.n_bytes + entry_bytes > self.max_bytes {
            self.masks.clear();
            self.n_bytes = 0;
        }
        self.n_bytes += entry_bytes;
        self.masks.insert((vocabulary.id(), key), Arc::clone(mask));
    }
}
