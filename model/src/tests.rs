//! The whole crate on small made-up checkpoints.

mod decoding;
mod folders;
mod hostile;
mod oracle;
pub(crate) mod synthetic;
