//! Masks remembered by automaton state, within a limit of bytes.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::token_set::TokenSet;
use crate::{TokenId, Vocabulary};

/// Bytes of bookkeeping an entry, beside its mask.
const ENTRY_BYTES: usize = 128;

/// Tokens that may come next, and how far from completion they leave the output.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) mask: TokenSet,
    /// Fewest bytes to completion after the best of the tokens.
    pub(crate) nearest: usize,
    /// The same after the worst of them.
    pub(crate) furthest: usize,
    /// Whether the distances were found; they cost more than the mask, and are rarely asked for.
    pub(crate) measured: bool,
}

impl Reach {
    /// No tokens yet, with distances if they are `measured`.
    pub(crate) fn new(vocabulary: &Vocabulary, measured: bool) -> Self {
        Self::over(vocabulary.n_tokens(), measured)
    }

    /// The same over `n_tokens` tokens.
    pub(crate) fn over(n_tokens: usize, measured: bool) -> Self {
        Self {
            mask: TokenSet::new(n_tokens),
            nearest: usize::MAX,
            furthest: 0,
            measured,
        }
    }

    /// Adds a token that leaves `distance` bytes.
    pub(crate) fn add(&mut self, token: TokenId, distance: usize) {
        self.mask.allow(token);
        self.nearest = self.nearest.min(distance);
        self.furthest = self.furthest.max(distance);
    }
}

/// Masks by vocabulary and key. When full it forgets the oldest: a mask can always be found again, and
/// forgetting many at once would take as long as finding one.
#[derive(Debug)]
pub(crate) struct MaskMemo<K> {
    masks: HashMap<(u64, K), Arc<Reach>>,
    /// The keys of `masks`, oldest first.
    order: VecDeque<(u64, K)>,
    n_bytes: usize,
    max_bytes: usize,
}

impl<K: Hash + Eq + Clone> MaskMemo<K> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            masks: HashMap::new(),
            order: VecDeque::new(),
            n_bytes: 0,
            max_bytes,
        }
    }

    /// Heap bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(crate) fn get(&self, vocabulary: &Vocabulary, key: K) -> Option<Arc<Reach>> {
        self.masks.get(&(vocabulary.id(), key)).cloned()
    }

    /// Remembers the mask of a key, in place of another it may have had.
    pub(crate) fn insert(&mut self, vocabulary: &Vocabulary, key: K, reach: &Arc<Reach>) {
        let key = (vocabulary.id(), key);
        self.n_bytes += entry_bytes::<K>(reach);
        match self.masks.insert(key.clone(), Arc::clone(reach)) {
            Some(before) => self.n_bytes -= entry_bytes::<K>(&before),
            None => self.order.push_back(key),
        }
        while self.n_bytes > self.max_bytes {
            let oldest = self.order.pop_front().expect("what counts bytes is listed");
            let forgotten = self.masks.remove(&oldest).expect("what is listed is there");
            self.n_bytes -= entry_bytes::<K>(&forgotten);
        }
    }
}

fn entry_bytes<K>(reach: &Reach) -> usize {
    reach.mask.n_bytes() + 2 * size_of::<(u64, K)>() + ENTRY_BYTES
}
