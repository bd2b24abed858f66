//! The `lmrun` command.
fn main() {}
