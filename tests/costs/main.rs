//! What a stranger's schemas may cost: processor time and memory, of one mutated schema and of very many.
//!
//! A binary of its own, because `allocation-counter` takes the place of the allocator. It counts the bytes that the
//! thread at hand holds, so that tests beside each other do not disturb it; a block that grows counts twice while it is
//! copied. See docs/constraints.md.
#![allow(
    unreachable_pub,
    reason = "modules of one test binary share what they export"
)]
#![expect(clippy::print_stdout, reason = "they say what they measured")]

#[path = "../support/constraints.rs"]
mod constraints;
mod hostile;
#[path = "../../grammar/tests/common/inputs.rs"]
mod inputs;
mod many;
mod mutate;
mod mutated;
#[path = "../support/parallel.rs"]
mod parallel;
mod trial;
