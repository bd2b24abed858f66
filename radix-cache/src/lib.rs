//! Token prefixes to KV pages, as a radix tree with locks and eviction.
