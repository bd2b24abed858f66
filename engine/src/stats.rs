//! Counters of a running engine, as a snapshot.

/// What an engine is doing and has done. Pages always balance: free + cached + held = total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that run now.
    pub n_running: usize,
    /// Requests that wait now, preempted ones among them.
    pub n_waiting: usize,
    /// Pages that hold nothing.
    pub n_pages_free: usize,
    /// Pages that the prefix cache holds, in use or not.
    pub n_pages_cached: usize,
    /// Pages that only running requests hold.
    pub n_pages_held: usize,
    /// Pages of the pool.
    pub n_pages_total: usize,
    /// Tokens a page holds.
    pub page_size: usize,
    /// Prompt tokens of all started requests.
    pub n_prompt_tokens: u64,
    /// Of those, read from the cache.
    pub n_cached_tokens: u64,
    /// Tokens generated, forced ones among them.
    pub n_generated_tokens: u64,
    /// Of those, tokens that were computed together with the one before, for a constraint had forced them or their bytes.
    pub n_forced_tokens: u64,
    /// Tokens that were computed so, but not chosen.
    pub n_unplanned_tokens: u64,
    /// Times that tokens of an output were taken back, for nothing may follow them.
    pub n_rollbacks: u64,
    /// Tokens that went through the decoder: prompts, outputs, and what was computed again after a preemption.
    pub n_computed_tokens: u64,
    /// Steps of the decoder.
    pub n_steps: u64,
    /// Steps that failed and took their batch with them.
    pub n_failed_steps: u64,
    /// Running requests that were sent back to wait.
    pub n_preemptions: u64,
    /// Pages evicted from the cache.
    pub n_pages_evicted: u64,
    /// Requests accepted.
    pub n_requests: u64,
    /// Requests ended, in whatever way.
    pub n_ended: u64,
}
