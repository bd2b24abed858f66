//! The HTTP surface: programs and OpenAI-compatible routes.
