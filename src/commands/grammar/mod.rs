//! `lmrun grammar`: check, sample, suite.

mod check;
mod sample;
mod suite;

use std::path::Path;
use std::sync::Arc;

use lmrun::grammar_suite::{InputError, Refusal, read_vocabulary};
use lmrun_grammar::Vocabulary;
use tokio::runtime::Builder;

use super::{drive, store};
use crate::cli::{GrammarCommand, GrammarOptions, TokenArguments};
use crate::failure::{ExitCode, Failure};

/// Carries one of the commands out, on a thread of its own, so that ctrl-C is heard.
pub(crate) fn grammar(options: &GrammarOptions) -> Result<ExitCode, Failure> {
    let options = options.clone();
    drive(Builder::new_current_thread(), async |signals| {
        signals.guard(move || carry_out(&options)).await
    })
}

fn carry_out(options: &GrammarOptions) -> Result<ExitCode, Failure> {
    let (tokens, json) = (&options.tokens, options.json);
    match &options.command {
        GrammarCommand::Check { file } => check::check(file, tokens, json),
        GrammarCommand::Sample {
            file,
            n,
            seed,
            max_tokens,
        } => {
            let order = sample::Order {
                n: *n,
                seed: *seed,
                max_tokens: *max_tokens,
            };
            sample::sample(file, &order, tokens, json)
        }
        GrammarCommand::Suite {
            files,
            declared_order,
        } => suite::suite(files, *declared_order, tokens, json),
    }
}

/// The tokens that the command line names; of a model nothing else is loaded.
fn vocabulary(tokens: &TokenArguments) -> Result<Arc<Vocabulary>, Failure> {
    if let Some(path) = &tokens.vocabulary {
        return Ok(read_vocabulary(path)?);
    }
    let path = store(tokens.offline)?.locate(&tokens.model)?;
    lmrun_engine::open_vocabulary(&path).map_err(|error| {
        Failure::backend(format!("cannot open the model {}: {error}", tokens.model))
    })
}

/// A constraint that was not compiled, with its file.
fn refused(file: &Path, refusal: &Refusal) -> Failure {
    Failure::check(format!("{}: {refusal}", file.display()), None)
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::usage(error.to_string())
    }
}
