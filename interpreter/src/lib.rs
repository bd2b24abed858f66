//! Runs a checked program against a backend.
