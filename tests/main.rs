//! The whole-product tests: one binary, a module a subject. See docs/testing.md.

mod cli;
mod exactness;
mod masks;
mod models;
mod programs;
mod server;
mod support;
mod tidy;
mod tokens;
mod truth;
