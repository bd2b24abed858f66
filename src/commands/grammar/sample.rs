//! `lmrun grammar sample`: random members.

use std::path::Path;
use std::sync::Arc;

use lmrun::grammar_suite::{FREE_TOKENS, Random, Refusal, Source, walk};
use lmrun_grammar::{GrammarError, JsonOptions, Matcher};
use serde_json::json;

use super::{refused, vocabulary};
use crate::cli::TokenArguments;
use crate::failure::{ExitCode, Failure};
use crate::output;

/// Which members.
pub(super) struct Order {
    pub(super) n: usize,
    pub(super) seed: u64,
    pub(super) max_tokens: Option<usize>,
}

pub(super) fn sample(
    file: &Path,
    order: &Order,
    tokens: &TokenArguments,
    json: bool,
) -> Result<ExitCode, Failure> {
    let source = Source::read(file)?;
    let vocabulary = vocabulary(tokens)?;
    let refused = |refusal: Refusal| refused(file, &refusal);
    let constraint = source.compile(&JsonOptions::default()).map_err(refused)?;
    let start =
        Matcher::new(constraint, Arc::clone(&vocabulary)).map_err(|error| refused(error.into()))?;
    let mut random = Random::new(order.seed);
    for _ in 0..order.n {
        let walked = walk(
            &mut start.clone(),
            &vocabulary,
            FREE_TOKENS,
            order.max_tokens,
            &mut random,
        );
        let bytes = walked.map_err(|error| match error {
            GrammarError::Budget { .. } => Failure::usage(format!("--max-tokens: {error}")),
            other => refused(other.into()),
        })?;
        // Every constraint is of UTF-8 text.
        let text = String::from_utf8_lossy(&bytes);
        match json {
            true => output::print_json(&json!(text))?,
            false => output::print(&format!("{text}\n"))?,
        }
    }
    Ok(ExitCode::OK)
}
