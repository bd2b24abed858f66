//! The pages: a free list, and the prefix cache that keeps what others may need again.
//!
//! A page is free, cached (the tree has it) or held (one running sequence has it alone); the three always add up to the
//! pool.

use lmrun_radix_cache::{Guard, Match, PageId, Policy, RadixCache};

use crate::TokenId;

/// The pool and the cache over it.
#[derive(Debug)]
pub(crate) struct Memory {
    page_size: usize,
    n_pages: usize,
    free: Vec<PageId>,
    cache: Option<RadixCache>,
    n_evicted: u64,
}

/// The computed start of a sequence, on its way out of the running.
pub(crate) struct Retired<'a> {
    pub(crate) namespace: u64,
    /// Tokens whose KV is computed.
    pub(crate) tokens: &'a [TokenId],
    /// Their block table, perhaps with pages beyond them.
    pub(crate) pages: Vec<PageId>,
    /// How many of `pages` belong to the tree.
    pub(crate) n_shared: usize,
    pub(crate) guard: Option<Guard>,
}

impl Memory {
    pub(crate) fn new(n_pages: usize, page_size: usize, prefix_cache: bool) -> Self {
        Self {
            page_size,
            n_pages,
            free: (0..n_pages as u32).rev().map(PageId).collect(),
            cache: prefix_cache.then(|| RadixCache::new(page_size, Policy::Lru)),
            n_evicted: 0,
        }
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages that hold `n_tokens` tokens.
    pub(crate) fn pages_of(&self, n_tokens: usize) -> usize {
        n_tokens.div_ceil(self.page_size)
    }

    pub(crate) fn n_pages(&self) -> usize {
        self.n_pages
    }

    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn n_cached(&self) -> usize {
        self.cache.as_ref().map_or(0, RadixCache::n_pages)
    }

    pub(crate) fn n_evicted(&self) -> u64 {
        self.n_evicted
    }

    /// Pages that [`Memory::allocate`] could find.
    pub(crate) fn n_available(&self) -> usize {
        self.n_free() + self.cache.as_ref().map_or(0, RadixCache::n_evictable)
    }

    /// Whether sequences share prefixes.
    pub(crate) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Changes whenever [`Memory::peek`] may answer differently.
    pub(crate) fn version(&self) -> u64 {
        self.cache.as_ref().map_or(0, RadixCache::version)
    }

    /// How many of `tokens` are cached.
    pub(crate) fn peek(&self, namespace: u64, tokens: &[TokenId]) -> usize {
        self.cache
            .as_ref()
            .map_or(0, |cache| cache.peek(namespace, tokens))
    }

    /// Locks the longest cached prefix of `tokens`.
    pub(crate) fn find(&mut self, namespace: u64, tokens: &[TokenId]) -> Option<Match> {
        self.cache
            .as_mut()
            .map(|cache| cache.match_prefix(namespace, tokens))
    }

    pub(crate) fn release(&mut self, guard: Guard) {
        let cache = self.cache.as_mut().expect("a guard comes from the cache");
        cache.release(guard);
    }

    /// Pages for the caller to hold, evicting what must be; all or nothing.
    pub(crate) fn allocate(&mut self, n_pages: usize) -> Option<Vec<PageId>> {
        if n_pages > self.n_available() {
            return None;
        }
        let n_missing = n_pages.saturating_sub(self.free.len());
        if n_missing > 0 {
            let cache = self
                .cache
                .as_mut()
                .expect("available pages that are not free are cached");
            let evicted = cache.evict(n_missing);
            self.n_evicted += evicted.len() as u64;
            self.free.extend(evicted);
        }
        Some(self.free.split_off(self.free.len() - n_pages))
    }

    /// Takes held pages back.
    pub(crate) fn free(&mut self, pages: impl IntoIterator<Item = PageId>) {
        self.free.extend(pages);
        debug_assert!(self.free.len() <= self.n_pages, "a page was freed twice");
    }

    /// Shares the whole pages of a running sequence: `pages` of `tokens` become the tree's, under the new guard.
    /// Nothing happens without a cache.
    pub(crate) fn publish(
        &mut self,
        guard: &mut Option<Guard>,
        namespace: u64,
        tokens: &[TokenId],
        pages: &mut [PageId],
    ) -> bool {
        let Some((cache, lock)) = self.cache.as_mut().zip(guard.take()) else {
            return false;
        };
        let published = cache.publish(lock, namespace, tokens, pages);
        pages.copy_from_slice(&published.pages);
        *guard = Some(published.guard);
        self.free(published.returned);
        true
    }

    /// Keeps what a sequence has computed in the cache, evictable, or frees it where there is none.
    pub(crate) fn retire(&mut self, mut retired: Retired<'_>) {
        let beyond = retired.pages.split_off(self.pages_of(retired.tokens.len()));
        self.free(beyond);
        if let Some(cache) = &mut self.cache {
            let returned = cache.insert(retired.namespace, retired.tokens, &retired.pages, 0);
            self.free(returned);
        } else {
            self.free(retired.pages.drain(retired.n_shared..));
        }
        if let Some(guard) = retired.guard {
            self.release(guard);
        }
    }

    /// Panics unless free, cached and held pages add up to the pool.
    pub(crate) fn assert_balance(&self, n_held: usize) {
        let (n_free, n_cached) = (self.n_free(), self.n_cached());
        assert_eq!(
            n_free + n_cached + n_held,
            self.n_pages,
            "{n_free} free + {n_cached} cached + {n_held} held pages"
        );
        #[cfg(test)]
        if let Some(cache) = &self.cache {
            cache.check().expect("the tree is sound");
        }
    }
}
