//! The cache of constraints: what it keeps, what it lets go, and that it counts what grows.

use std::cell::Cell;
use std::sync::Arc;

use lmrun_grammar::{
    Constraint, ConstraintCache, GrammarError, Limits, Matcher, TokenMask, Vocabulary,
};

fn regex(pattern: &str) -> Result<Constraint, GrammarError> {
    Constraint::regex(pattern, &Limits::default())
}

fn bytes() -> Arc<Vocabulary> {
    let bytes = (0..=u8::MAX).map(|byte| Some([byte].into())).chain([None]);
    Arc::new(Vocabulary::new(bytes.collect(), vec![256]))
}

/// Whether asking for `a{2}` by a key compiles it.
fn is_compiled(cache: &ConstraintCache, key: &str) -> bool {
    let compiled = Cell::new(false);
    let made = cache.get_or_compile(key, || {
        compiled.set(true);
        regex("a{2}")
    });
    made.expect("`a{2}` is a regex");
    compiled.get()
}

#[test]
fn a_constraint_is_compiled_once_and_shares_what_it_learnt() {
    let cache = ConstraintCache::new(1 << 20);
    let n_compiled = Cell::new(0);
    let get = || {
        cache.get_or_compile("a", || {
            n_compiled.set(n_compiled.get() + 1);
            regex("[a-z]{3}")
        })
    };
    let first = get().unwrap();
    let before = first.n_bytes();
    let mut matcher = Matcher::new(first, bytes()).unwrap();
    matcher.accept(u32::from(b'a')).unwrap();
    matcher.mask(&mut TokenMask::new(257)).unwrap();
    let second = get().unwrap();
    assert_eq!(n_compiled.get(), 1);
    assert!(
        second.n_bytes() > before,
        "the masks that were found are the second's too"
    );
    let (n_constraints, n_bytes) = cache.usage();
    assert_eq!(n_constraints, 1);
    assert_eq!(n_bytes, "a".len() + second.n_bytes(), "a use counts again");
}

#[test]
fn what_fails_is_not_kept() {
    let cache = ConstraintCache::new(1 << 20);
    assert!(cache.get_or_compile("(", || regex("(")).is_err());
    assert_eq!(cache.usage(), (0, 0));
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let size = regex("a{2}").unwrap().n_bytes() + 1;
    let cache = ConstraintCache::new(2 * size + size / 2);
    let get = |key: &str| is_compiled(&cache, key);
    assert!(get("1") && get("2"));
    assert!(!get("1"), "both fit");
    assert!(get("3"));
    assert!(!get("1"), "it was used after the second");
    assert!(get("2"), "it was let go");
    assert_eq!(cache.usage().0, 2);
}

#[test]
fn what_comes_once_takes_a_quarter_of_what_is_used_again() {
    let size = regex("a{2}").unwrap().n_bytes() + 2;
    let cache = ConstraintCache::new(8 * size);
    let get = |key: &str| is_compiled(&cache, key);
    let used_again = ["00", "01", "02", "03", "04", "05", "06", "07"];
    for key in used_again.into_iter().chain(used_again) {
        get(key);
    }
    for n in 10..90 {
        assert!(get(&n.to_string()), "it came once");
    }
    // Two of eight places went to those that came once.
    let kept: Vec<&str> = used_again.into_iter().filter(|key| !get(key)).collect();
    assert_eq!(kept, ["02", "03", "04", "05", "06", "07"]);
}

#[test]
fn a_constraint_larger_than_the_cache_is_made_and_not_kept() {
    let cache = ConstraintCache::new(16);
    assert!(cache.get_or_compile("a", || regex("a")).is_ok());
    assert_eq!(cache.usage(), (0, 0));
}
