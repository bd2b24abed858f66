//! Scoring: the log-probabilities of continuations as a trie of tokens over the prompt.
//!
//! A token that several continuations have after the same tokens is computed once. Each stretch between branchings
//! becomes one lane; a row of logits then serves every continuation that goes on from its position.

use std::collections::BTreeMap;

use crate::TokenId;
use crate::sampler;
use crate::scheduler::{Lane, NO_LOGITS};

/// A log-probability to be read from a row.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    continuation_idx: usize,
    token_idx: usize,
    token: TokenId,
}

/// A position, after the prompt's last one, that is computed.
#[derive(Debug, Default)]
struct TrieNode {
    children: BTreeMap<TokenId, usize>,
    wanted: Vec<Wanted>,
}

/// A scoring request's own state.
#[derive(Debug)]
pub(crate) struct Scoring {
    /// What each row is for, `[n_lanes][n_rows]`; empty once read.
    wanted: Vec<Vec<Vec<Wanted>>>,
    /// `[n_continuations][n_tokens]`
    logprobs: Vec<Vec<f32>>,
    n_missing: usize,
}

impl Scoring {
    /// The state, and the lanes to compute.
    pub(crate) fn new(prompt: Vec<TokenId>, continuations: &[Vec<TokenId>]) -> (Self, Vec<Lane>) {
        let mut trie = trie_of(continuations);
        let n_prompt = prompt.len();
        let n_missing = continuations.iter().map(Vec::len).sum();
        let logits_from = if n_missing == 0 {
            NO_LOGITS
        } else {
            n_prompt - 1
        };
        let mut lanes = vec![Lane::new(None, 0, prompt, logits_from)];
        let mut wanted = vec![vec![std::mem::take(&mut trie[0].wanted)]];
        let mut unvisited = vec![(0, 0)];
        while let Some((node, parent)) = unvisited.pop() {
            for (token, child) in std::mem::take(&mut trie[node].children) {
                let (mut tokens, mut rows) = (vec![token], Vec::new());
                let mut last = child;
                loop {
                    rows.push(std::mem::take(&mut trie[last].wanted));
                    let is_chain = trie[last].children.len() == 1;
                    let next = if is_chain {
                        trie[last].children.pop_first()
                    } else {
                        None
                    };
                    let Some((token, child)) = next else { break };
                    tokens.push(token);
                    last = child;
                }
                unvisited.push((last, lanes.len()));
                let start = lanes[parent].end();
                lanes.push(Lane::new(Some(parent), start, tokens, start));
                wanted.push(rows);
            }
        }
        let logprobs = continuations
            .iter()
            .map(|tokens| vec![0.0; tokens.len()])
            .collect();
        (
            Self {
                wanted,
                logprobs,
                n_missing,
            },
            lanes,
        )
    }

    /// Takes row `row_idx` of a lane's rows, `[n_vocab]`. A row that comes again after a preemption is ignored.
    pub(crate) fn read(&mut self, lane_idx: usize, row_idx: usize, row: &[f32]) {
        let wanted = std::mem::take(&mut self.wanted[lane_idx][row_idx]);
        if wanted.is_empty() {
            return;
        }
        let log_sum = sampler::log_sum_exp(row);
        self.n_missing -= wanted.len();
        for Wanted {
            continuation_idx,
            token_idx,
            token,
        } in wanted
        {
            self.logprobs[continuation_idx][token_idx] = sampler::logprob(row, token, log_sum);
        }
    }

    /// Whether every row has been read.
    pub(crate) fn is_complete(&self) -> bool {
        self.n_missing == 0
    }

    /// The log-probabilities, `[n_continuations][n_tokens]`.
    pub(crate) fn take_logprobs(&mut self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.logprobs)
    }
}

/// All continuations without their last tokens, which need no logits of their own. Node 0 is the prompt's end.
fn trie_of(continuations: &[Vec<TokenId>]) -> Vec<TrieNode> {
    let mut trie = vec![TrieNode::default()];
    for (continuation_idx, tokens) in continuations.iter().enumerate() {
        let mut node = 0;
        for (token_idx, &token) in tokens.iter().enumerate() {
            trie[node].wanted.push(Wanted {
                continuation_idx,
                token_idx,
                token,
            });
            if token_idx + 1 < tokens.len() {
                let fresh = trie.len();
                node = *trie[node].children.entry(token).or_insert(fresh);
                if node == fresh {
                    trie.push(TrieNode::default());
                }
            }
        }
    }
    trie
}
