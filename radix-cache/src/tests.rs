//! The tree against a map from whole prefixes to pages: slow, obvious, and asked after every operation.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Guard, Match, PageId, Policy, RadixCache, TokenId};

const PAGE_SIZE: usize = 4;
const N_PAGES: usize = 48;

/// A namespace and every token up to the end of a page, which may be partly filled.
type Prefix = (u64, Vec<TokenId>);

/// xorshift64*: the test needs no more.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn query(&mut self) -> Prefix {
        let n_tokens = self.below(7 * PAGE_SIZE);
        let tokens = (0..n_tokens)
            .map(|_| u32::from(self.below(8) == 0))
            .collect();
        (self.below(3) as u64, tokens)
    }
}

/// The oracle, and a pool that must always balance.
struct World {
    cache: RadixCache,
    pages: BTreeMap<Prefix, PageId>,
    free: Vec<PageId>,
    held: BTreeSet<PageId>,
    /// Guards with the prefix that each protects.
    guards: Vec<(Guard, Prefix)>,
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            cache: RadixCache::new(PAGE_SIZE, policy),
            pages: BTreeMap::new(),
            free: (0..N_PAGES as u32).map(PageId).collect(),
            held: BTreeSet::new(),
            guards: Vec::new(),
        }
    }

    /// Whole pages of the longest match, and how many tokens of another page follow.
    fn expected_match(&self, (namespace, tokens): &Prefix) -> (Vec<PageId>, usize) {
        let whole = (PAGE_SIZE..=tokens.len()).step_by(PAGE_SIZE);
        let found = whole.map_while(|end| self.pages.get(&(*namespace, tokens[..end].to_vec())));
        let pages: Vec<PageId> = found.copied().collect();
        let start = pages.len() * PAGE_SIZE;
        let tails = self.pages.keys().filter(|(other, prefix)| {
            let is_next = prefix.len() > start && prefix.len() <= start + PAGE_SIZE;
            other == namespace && is_next && prefix[..start] == tokens[..start]
        });
        let common = |prefix: &Prefix| {
            prefix.1[start..]
                .iter()
                .zip(&tokens[start..])
                .take_while(|(a, b)| a == b)
                .count()
        };
        let tail = tails.map(common).max().unwrap_or(0);
        (pages, tail)
    }

    /// Whether a guard's path holds the page that ends this prefix. Part of a page is a leaf of its own.
    fn is_protected(&self, (namespace, prefix): &Prefix) -> bool {
        let is_whole = prefix.len().is_multiple_of(PAGE_SIZE);
        self.guards.iter().any(|(_, (other, path))| {
            other == namespace && (path == prefix || is_whole && path.starts_with(prefix))
        })
    }

    /// Takes back a page that the tree gave up and forgets its prefix.
    fn forget(&mut self, page: PageId) {
        let prefix = self
            .pages
            .iter()
            .find(|&(_, &kept)| kept == page)
            .expect("it was kept")
            .0;
        let prefix = prefix.clone();
        assert!(!self.is_protected(&prefix), "{page:?} was protected");
        self.pages.remove(&prefix);
        self.free.push(page);
    }

    fn look(&mut self, query: &Prefix) -> Match {
        let (pages, n_tail) = self.expected_match(query);
        assert_eq!(
            self.cache.peek(query.0, &query.1),
            pages.len() * PAGE_SIZE + n_tail
        );
        let found = self.cache.match_prefix(query.0, &query.1);
        assert_eq!(found.pages, pages);
        assert_eq!(found.tail.as_ref().map_or(0, |tail| tail.n_tokens), n_tail);
        if let Some(tail) = &found.tail {
            let start = pages.len() * PAGE_SIZE;
            let matching = query.1[..start + n_tail].to_vec();
            let holds = |(prefix, &page): (&Prefix, &PageId)| {
                page == tail.page && prefix.0 == query.0 && prefix.1.starts_with(&matching)
            };
            assert!(
                self.pages.iter().any(holds),
                "the tail's page holds its tokens"
            );
        }
        found
    }

    fn lock(&mut self, random: &mut Random) {
        let query = random.query();
        let Match { guard, pages, tail } = self.look(&query);
        let locked = query.1[..pages.len() * PAGE_SIZE].to_vec();
        self.guards.push((guard, (query.0, locked)));
        let Some(tail) = tail else { return };
        if random.below(2) == 0 {
            return self.cache.release(tail.guard);
        }
        // It protects the whole edge, to the prefix that ends with the edge's last page.
        let last = self.cache.nodes[tail.guard.node].pages.last().unwrap();
        let owner = self
            .pages
            .iter()
            .find(|&(_, page)| page == last)
            .unwrap()
            .0
            .clone();
        self.guards.push((tail.guard, owner));
    }

    fn unlock(&mut self, random: &mut Random) {
        if !self.guards.is_empty() {
            let (guard, _) = self.guards.swap_remove(random.below(self.guards.len()));
            self.cache.release(guard);
        }
    }

    fn fork(&mut self, random: &mut Random) {
        if !self.guards.is_empty() && self.guards.len() < 12 {
            let (guard, path) = &self.guards[random.below(self.guards.len())];
            let other = self.cache.fork(guard);
            let path = path.clone();
            self.guards.push((other, path));
        }
    }

    fn evict(&mut self, n_pages: usize) {
        let expected = n_pages.min(self.cache.n_evictable());
        let evicted = self.cache.evict(n_pages);
        assert_eq!(evicted.len(), expected);
        for page in evicted {
            let prefix = self
                .pages
                .iter()
                .find(|&(_, &kept)| kept == page)
                .unwrap()
                .0
                .clone();
            let goes_before = |(namespace, other): &Prefix| {
                *namespace == prefix.0
                    && other.len() > prefix.1.len()
                    && other.starts_with(&prefix.1)
            };
            let is_whole = prefix.1.len().is_multiple_of(PAGE_SIZE);
            let has_rest = is_whole && self.pages.keys().any(goes_before);
            assert!(!has_rest, "a prefix went before what hangs on it");
            self.forget(page);
        }
    }

    /// Pages for a sequence: the matched ones, then fresh ones, as a request would hold them.
    fn pages_for(&mut self, query: &Prefix, n_shared: usize) -> Option<Vec<PageId>> {
        let n_pages = query.1.len().div_ceil(PAGE_SIZE);
        let mut pages = self.expected_match(query).0;
        pages.truncate(n_shared);
        if self.free.len() < n_pages - pages.len() {
            return None;
        }
        for _ in pages.len()..n_pages {
            let page = self.free.pop().unwrap();
            self.held.insert(page);
            pages.push(page);
        }
        Some(pages)
    }

    /// What an insertion should do to the oracle; returns what should come back.
    fn expect_insert(
        &mut self,
        (namespace, tokens): &Prefix,
        pages: &[PageId],
    ) -> BTreeSet<PageId> {
        let mut returned = BTreeSet::new();
        for (page_idx, &page) in pages.iter().enumerate() {
            let start = page_idx * PAGE_SIZE;
            let end = (start + PAGE_SIZE).min(tokens.len());
            let key = (*namespace, tokens[..end].to_vec());
            let covers = |(other, prefix): &Prefix| {
                other == namespace
                    && prefix.len() <= start + PAGE_SIZE
                    && prefix.starts_with(&key.1)
            };
            let cover = self.pages.iter().find(|(prefix, _)| covers(prefix));
            if let Some((_, &kept)) = cover {
                if !self.held.contains(&page) {
                    assert_eq!(kept, page);
                }
                returned.extend((kept != page).then_some(page));
            } else {
                let covered: Vec<Prefix> = (start + 1..end)
                    .map(|end| (*namespace, tokens[..end].to_vec()))
                    .filter(|key| self.pages.contains_key(key) && !self.is_protected(key))
                    .collect();
                returned.extend(covered.iter().map(|key| self.pages.remove(key).unwrap()));
                self.pages.insert(key, page);
            }
        }
        returned
    }

    fn insert(&mut self, random: &mut Random) {
        let query = random.query();
        let n_shared = random.below(8);
        let Some(pages) = self.pages_for(&query, n_shared) else {
            return self.evict(query.1.len() / PAGE_SIZE + 1);
        };
        let expected = self.expect_insert(&query, &pages);
        let priority = random.below(3) as u8;
        let returned = self.cache.insert(query.0, &query.1, &pages, priority);
        assert_eq!(returned.iter().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(returned.len(), expected.len(), "a page comes back once");
        self.free.extend(returned);
        self.held.clear();
    }

    fn publish(&mut self, random: &mut Random) {
        let (namespace, mut tokens) = random.query();
        tokens.truncate(tokens.len() / PAGE_SIZE * PAGE_SIZE);
        let query = (namespace, tokens);
        let Match {
            guard,
            pages: shared,
            tail,
        } = self.look(&query);
        if let Some(tail) = tail {
            self.cache.release(tail.guard);
        }
        let Some(pages) = self.pages_for(&query, shared.len()) else {
            return self.cache.release(guard);
        };
        let expected = self.expect_insert(&query, &pages);
        let published = self.cache.publish(guard, query.0, &query.1, &pages);
        assert_eq!(
            published.returned.iter().copied().collect::<BTreeSet<_>>(),
            expected
        );
        assert_eq!(published.pages, self.expected_match(&query).0);
        self.free.extend(published.returned);
        self.held.clear();
        self.guards.push((published.guard, query));
    }

    fn check(&self) {
        self.cache.check().unwrap();
        assert_eq!(self.cache.n_pages(), self.pages.len());
        assert_eq!(self.cache.n_guards(), self.guards.len());
        assert_eq!(
            self.free.len() + self.held.len() + self.pages.len(),
            N_PAGES
        );
        let n_protected = self
            .pages
            .keys()
            .filter(|prefix| self.is_protected(prefix))
            .count();
        assert_eq!(self.cache.n_evictable(), self.pages.len() - n_protected);
    }
}

fn random_operations(policy: Policy, seed: u64, n_operations: usize) {
    let mut world = World::new(policy);
    let mut random = Random(seed);
    for _ in 0..n_operations {
        match random.below(16) {
            0..6 => world.insert(&mut random),
            6..9 => world.lock(&mut random),
            9..13 => world.unlock(&mut random),
            13 => world.publish(&mut random),
            14 => world.fork(&mut random),
            _ => {
                let n_pages = random.below(6);
                world.evict(n_pages);
            }
        }
        world.check();
    }
    for (guard, _) in std::mem::take(&mut world.guards) {
        world.cache.release(guard);
    }
    world.evict(N_PAGES);
    world.check();
    assert_eq!(world.free.len(), N_PAGES, "unlocked pages all come back");
    assert!(
        world.cache.roots.is_empty(),
        "empty namespaces are forgotten"
    );
}

#[test]
fn a_hundred_thousand_random_operations_agree_with_a_map() {
    random_operations(Policy::Lru, 1, 40_000);
    random_operations(Policy::Lfu, 2, 30_000);
    random_operations(Policy::Priority, 3, 30_000);
}

fn cache_of(policy: Policy, entries: &[(&[TokenId], u8)]) -> RadixCache {
    let mut cache = RadixCache::new(2, policy);
    for (entry_idx, &(tokens, priority)) in entries.iter().enumerate() {
        let n_pages = tokens.len().div_ceil(2);
        let pages: Vec<PageId> = (0..n_pages)
            .map(|page_idx| PageId((10 * entry_idx + page_idx) as u32))
            .collect();
        assert!(cache.insert(0, tokens, &pages, priority).is_empty());
    }
    cache
}

#[test]
fn the_least_recently_used_goes_first() {
    let mut cache = cache_of(Policy::Lru, &[(&[1, 1], 0), (&[2, 2], 0), (&[3, 3], 0)]);
    let found = cache.match_prefix(0, &[1, 1]);
    cache.release(found.guard);
    assert_eq!(cache.evict(3), [PageId(10), PageId(20), PageId(0)]);
}

#[test]
fn the_least_often_used_goes_first() {
    let mut cache = cache_of(Policy::Lfu, &[(&[1, 1], 0), (&[2, 2], 0), (&[3, 3], 0)]);
    for tokens in [[3, 3], [1, 1], [1, 1]] {
        let found = cache.match_prefix(0, &tokens);
        cache.release(found.guard);
    }
    assert_eq!(cache.evict(3), [PageId(10), PageId(20), PageId(0)]);
}

#[test]
fn the_lowest_priority_goes_first() {
    let mut cache = cache_of(
        Policy::Priority,
        &[(&[1, 1], 2), (&[2, 2], 0), (&[3, 3], 1)],
    );
    assert_eq!(cache.evict(3), [PageId(10), PageId(20), PageId(0)]);
}

#[test]
fn a_tail_goes_before_its_prefix_page_by_page() {
    let mut cache = cache_of(Policy::Lru, &[(&[1, 2, 3, 4, 5], 0)]);
    assert_eq!(cache.evict(1), [PageId(2)]);
    assert_eq!(cache.peek(0, &[1, 2, 3, 4, 5]), 4);
    assert_eq!(cache.evict(9), [PageId(1), PageId(0)]);
}

#[test]
fn a_match_inside_a_page_gives_a_tail() {
    let mut cache = cache_of(Policy::Lru, &[(&[1, 2, 3, 4], 0)]);
    let found = cache.match_prefix(0, &[1, 2, 3, 9]);
    assert_eq!(found.pages, [PageId(0)]);
    let tail = found.tail.unwrap();
    assert_eq!((tail.page, tail.n_tokens), (PageId(1), 1));
    assert_eq!(cache.evict(2), [], "match and tail are protected");
    cache.release(tail.guard);
    assert_eq!(cache.evict(2), [PageId(1)], "the match still is");
    cache.release(found.guard);
    cache.check().unwrap();
}

#[test]
fn a_longer_sibling_replaces_part_of_a_page() {
    let mut cache = cache_of(Policy::Lru, &[(&[1, 2, 3], 0)]);
    assert_eq!(
        cache.insert(0, &[1, 2, 3, 4], &[PageId(0), PageId(7)], 0),
        [PageId(1)]
    );
    assert_eq!(
        cache.insert(0, &[1, 2, 3], &[PageId(0), PageId(8)], 0),
        [PageId(8)]
    );
    assert_eq!(cache.n_pages(), 2);
    cache.check().unwrap();
}

#[test]
fn namespaces_share_nothing() {
    let mut cache = cache_of(Policy::Lru, &[(&[1, 2], 0)]);
    assert_eq!(cache.peek(1, &[1, 2]), 0);
    let found = cache.match_prefix(1, &[1, 2]);
    assert!(found.pages.is_empty() && found.tail.is_none());
    cache.release(found.guard);
    assert_eq!(cache.peek(0, &[1, 2]), 2);
    cache.check().unwrap();
}
