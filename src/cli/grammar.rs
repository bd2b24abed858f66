//! `lmrun grammar` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::positive;

/// `lmrun grammar`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  lmrun grammar check person.json
  lmrun grammar sample date.regex -n 5 --seed 1
  lmrun grammar suite schemas.jsonl --json")]
pub(crate) struct GrammarOptions {
    #[command(subcommand)]
    pub(crate) command: GrammarCommand,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) tokens: TokenArguments,
}

/// Whose tokens masks are about.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens")]
pub(crate) struct TokenArguments {
    /// The model whose tokens are used: a name, a path, or hf:org/repo[:quant]
    #[arg(long, global = true, default_value = "smollm2")]
    pub(crate) model: String,
    /// Tokens in tiktoken's format instead: base64, a space, the id, one a line
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) vocabulary: Option<PathBuf>,
    /// Use only models already here
    #[arg(long, global = true)]
    pub(crate) offline: bool,
}

/// What is done with constraints.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum GrammarCommand {
    /// Say whether a schema or regex is supported, and what it costs
    Check {
        /// A JSON Schema (.json), a regex (.regex, .txt) or a grammar (.lark, .gbnf)
        file: PathBuf,
    },
    /// Print random members, one a line
    Sample {
        /// A JSON Schema (.json), a regex (.regex, .txt) or a grammar (.lark, .gbnf)
        file: PathBuf,
        /// How many
        #[arg(short, value_name = "N", default_value = "1", value_parser = positive)]
        n: usize,
        /// The seed; the same seed gives the same members
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The most tokens of a member
        #[arg(long, value_name = "N", value_parser = positive)]
        max_tokens: Option<usize>,
    },
    /// Replay instances known to be valid or not, token by token
    #[command(after_help = "\
A line is {\"name\": .., \"schema\": .., \"tests\": [{\"valid\": true, \"data\": ..}]}; `regex` may stand for `schema`.
Exit code 1 says that an answer was wrong: a valid instance refused, an invalid one accepted, or an error.")]
    Suite {
        /// Files with a case a line
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Take members in the schema's order only
        #[arg(long)]
        declared_order: bool,
    },
}
