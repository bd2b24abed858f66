//! Checkpoints: configuration, tokenizer, chat template, weights, and one decoder.
