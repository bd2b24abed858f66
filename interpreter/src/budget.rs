//! What a run may use up: generated tokens and steps of evaluation, counted over all branches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::cancel::Cancel;

/// The counters of one run.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: Option<usize>,
    n_tokens: AtomicUsize,
    steps: u64,
    n_steps: AtomicU64,
    used_up: Cancel,
}

impl Budget {
    /// At most `tokens` generated tokens, if there is a limit, and `steps` steps.
    pub(crate) fn new(tokens: Option<usize>, steps: u64) -> Self {
        Self {
            tokens,
            n_tokens: AtomicUsize::new(0),
            steps,
            n_steps: AtomicU64::new(0),
            used_up: Cancel::new(),
        }
    }

    /// The limit on generated tokens.
    pub(crate) fn token_limit(&self) -> Option<usize> {
        self.tokens
    }

    /// Tokens that may still be generated; none without a limit.
    pub(crate) fn tokens_left(&self) -> Option<usize> {
        Some(
            self.tokens?
                .saturating_sub(self.n_tokens.load(Ordering::Relaxed)),
        )
    }

    /// Counts a generated token. Branches that generate at the same time share the budget, so that one can use up what
    /// another was promised; [`Budget::used_up`] then ends them all.
    pub(crate) fn take_token(&self) {
        let n_tokens = self.n_tokens.fetch_add(1, Ordering::Relaxed) + 1;
        if self.tokens.is_some_and(|limit| n_tokens > limit) {
            self.used_up.cancel();
        }
    }

    /// Waits until more tokens were generated than there may be.
    pub(crate) async fn used_up(&self) {
        self.used_up.cancelled().await;
    }

    /// Counts a step; the number of steps so far, or the limit that was passed.
    pub(crate) fn take_step(&self) -> Result<u64, u64> {
        let n_steps = self.n_steps.fetch_add(1, Ordering::Relaxed) + 1;
        if n_steps > self.steps {
            Err(self.steps)
        } else {
            Ok(n_steps)
        }
    }
}
