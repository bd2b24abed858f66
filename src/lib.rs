//! What the `lmrun` command is made of and its tests and examples share: getting a model.

pub mod models;
