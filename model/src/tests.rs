//! The whole crate on small made-up checkpoints.

mod configs;
mod decoding;
mod families;
mod folders;
mod hostile;
mod oracle;
mod progress;
mod quantisation;
pub(crate) mod synthetic;
mod trial;
