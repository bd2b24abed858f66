//! The .lmp language: source text to a checked program.
