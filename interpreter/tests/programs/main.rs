//! Whole programs, played by scripts: every construct of the language against a backend without a model.

mod branches;
mod choices;
mod common;
mod limits;
mod statements;
