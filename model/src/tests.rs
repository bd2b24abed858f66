//! The whole crate on small made-up checkpoints.

mod decoding;
mod folders;
mod hostile;
mod oracle;
mod synthetic;
