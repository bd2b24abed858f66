//! `lmrun bench` on the command line.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ComputeArguments, positive};

/// `lmrun bench`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  lmrun bench engine
  lmrun bench engine --threads 1 --json
  lmrun bench engine --device cuda --kv-type int8
  lmrun bench engine --prefill 512 --decode 1,16 --svg speed.svg")]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure how fast a model reads prompts and writes on this machine
    #[command(after_help = "\
Whole requests go through the engine, scheduling and sampling among them; nothing is read from the prefix cache, but
for --shared. Figures are tokens a second, medians of --runs. Of --prefill, --decode, --context and --shared what is
named is measured; all but the last if nothing is. Run it on an idle machine.")]
    Engine(BenchEngineOptions),
}

/// `lmrun bench engine`
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchEngineOptions {
    /// A model's name, a path, or hf:org/repo[:quant]
    #[arg(long, default_value = "smollm2")]
    pub(crate) model: String,
    /// Lengths of prompts to read, in tokens [default: 32,512,2048]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = positive)]
    pub(crate) prefill: Vec<usize>,
    /// Numbers of sequences to write at once, each after a prompt of 128 tokens [default: 1,2,4,8,16,32]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = positive)]
    pub(crate) decode: Vec<usize>,
    /// Lengths of prompts to write one sequence after [default: 512,1024,2048,4096]
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = positive)]
    pub(crate) context: Vec<usize>,
    /// Numbers of sequences to write at once, each after so many tokens of a prompt that was read before: once after the same
    /// tokens, and once each after its own
    #[arg(long, value_name = "N:TOKENS,..", value_delimiter = ',', value_parser = branches)]
    pub(crate) shared: Vec<Branches>,
    /// How often each figure is measured
    #[arg(long, value_name = "N", value_parser = positive, default_value = "5")]
    pub(crate) runs: usize,
    /// Draw the figures into a file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Use only models already here
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

/// A number of sequences, and of tokens before what they write: `N:TOKENS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Branches {
    pub(crate) n_sequences: usize,
    pub(crate) n_tokens: usize,
}

impl fmt::Display for Branches {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.n_sequences, self.n_tokens)
    }
}

fn branches(text: &str) -> Result<Branches, String> {
    let (n_sequences, n_tokens) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` is not N:TOKENS, 64:8192 for example"))?;
    Ok(Branches {
        n_sequences: positive(n_sequences)?,
        n_tokens: positive(n_tokens)?,
    })
}
