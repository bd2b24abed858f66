//! Regexes, JSON Schemas and choices as automata over token masks.
