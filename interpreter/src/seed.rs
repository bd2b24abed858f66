//! Seeds: one run seed, from which every branch and every generation has its own.
//!
//! A child's seed depends on its parent's and on its number alone, so branches may run in any order and at any speed.
//! The mixing function is SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
//! 2014).

/// Keeps the seeds of children apart from those of generations.
const CHILD: u64 = 0x6368_696c_6400_0000;

/// The seed of the `index`th generation of a branch.
pub(crate) fn of_generation(branch_seed: u64, index: u64) -> u64 {
    mix(mix(branch_seed) ^ index)
}

/// The seed of the `index`th child of a branch.
pub(crate) fn of_child(branch_seed: u64, index: u64) -> u64 {
    mix(mix(branch_seed ^ CHILD) ^ index)
}

/// A seed that differs from run to run.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    mix(RandomState::new().hash_one(std::time::SystemTime::now()))
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
