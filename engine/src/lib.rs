//! Requests to sampled tokens: scheduler, KV pool, sampler, one engine thread.
