//! The whole-product tests: one binary, a module a subject. See docs/testing.md.
#![allow(
    unreachable_pub,
    reason = "modules of one test binary share what they export"
)]

mod bench;
mod cli;
mod doctor;
mod exactness;
mod forcing;
mod gemma;
mod grammar;
mod masks;
mod models;
mod programs;
mod server;
mod support;
mod tidy;
mod tokens;
mod truth;
mod walks;
