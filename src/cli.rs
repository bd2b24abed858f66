//! The command line, as clap derives it: names, help texts, examples.

mod bench;
mod grammar;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lmrun_engine::{DeviceChoice, KvFormat, Quantisation};

pub(crate) use bench::{BenchCommand, BenchEngineOptions, BenchOptions, Branches};
pub(crate) use grammar::{GrammarCommand, GrammarOptions, TokenArguments};

/// Run small programs that talk to a language model.
#[derive(Debug, Parser)]
#[command(name = "lmrun", version, about, propagate_version = true)]
#[command(after_help = "\
Examples:
  lmrun run examples/hello.lmp --arg who=Ada
  lmrun check examples/*.lmp
  lmrun serve --port 8080

Exit codes: 0 ok; 1 the program failed; 2 usage; 3 check errors; 4 capability denied;
5 budget or timeout; 6 model or machine; 130 interrupted.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `lmrun` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program
    Run(RunOptions),
    /// Check programs without running them
    Check(CheckOptions),
    /// Check, sample and test what constrains a generation
    Grammar(GrammarOptions),
    /// List, fetch, describe and remove models
    Models(ModelsOptions),
    /// Serve programs and OpenAI-compatible chat over HTTP
    Serve(ServeOptions),
    /// Tell what this machine computes with, and what it lacks for a GPU
    Doctor(DoctorOptions),
    /// Measure this machine with a model
    Bench(BenchOptions),
}

/// `lmrun run`
#[derive(Debug, Args)]
#[command(after_help = "\
Generated text goes to standard output as it comes, then the value the program returns; everything
else goes to standard error.

Examples:
  lmrun run hello.lmp --arg who=Ada
  lmrun run extract.lmp --arg text=@letter.txt --json
  lmrun run interview.lmp --stream=ndjson --seed 7
  lmrun run plan.lmp --model ./Qwen3-0.6B --quant q8_0 --kv-type int8
  lmrun run plan.lmp --arg-json '{\"words\": [\"cat\", \"dog\"]}' --timeout 30s
  echo 'user \"Hi\" assistant gen(x)' | lmrun run -")]
pub(crate) struct RunOptions {
    /// The program, or `-` for standard input
    pub(crate) file: PathBuf,
    /// An argument, read by its declared type; NAME=@FILE takes the file's text, NAME=@- standard input's
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub(crate) arguments: Vec<String>,
    /// Arguments as one JSON object; each --arg goes over it
    #[arg(long, value_name = "OBJECT")]
    pub(crate) arg_json: Option<String>,
    /// A model's name, a path, or hf:org/repo[:quant]; overrides the program's own
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The seed; the same program, arguments and seed give the same run
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The most tokens the whole run may generate
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_tokens: Option<usize>,
    /// The longest it may run: 500ms, 30s, 2min
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Show every prompt and generate nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON envelope instead of text
    #[arg(long, conflicts_with = "stream")]
    pub(crate) json: bool,
    /// Print events as they happen, and the envelope last
    #[arg(long, value_name = "FORMAT")]
    pub(crate) stream: Option<StreamFormat>,
    /// Use only models already here
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

/// What a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunFormat {
    /// The text it generates, then its result.
    Text,
    /// One envelope.
    Envelope,
    /// Every event, one a line, and the envelope last.
    Events,
}

impl RunOptions {
    /// What the run prints.
    pub(crate) fn format(&self) -> RunFormat {
        match (self.json, self.stream) {
            (true, _) => RunFormat::Envelope,
            (false, Some(StreamFormat::Ndjson)) => RunFormat::Events,
            (false, None) => RunFormat::Text,
        }
    }
}

/// What any command that runs programs can be told about the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArguments {
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// Tokens of KV memory [default: what 1 GiB holds]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) kv_tokens: Option<usize>,
}

/// What any command that loads a model can be told about how it computes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct ComputeArguments {
    /// Threads that compute [default: every core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,
    /// Where the model computes: auto is a GPU that does as the CPU does, else the CPU; cpu; cuda, cuda:N
    #[arg(long, value_name = "DEVICE", value_parser = device, default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// How keys and values are kept: bf16; int8, in about half the memory; on the CPU f32; on a GPU f16 or fp8
    #[arg(long, value_name = "TYPE", value_parser = kv_format, default_value = "bf16")]
    pub(crate) kv_type: KvFormat,
    /// Quantise a model of F32, F16 or BF16 weights while it is loaded: q8_0, or q4_0 in about half the memory of that
    #[arg(long, value_name = "TYPE", value_parser = quantisation)]
    pub(crate) quant: Option<Quantisation>,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamFormat {
    /// One JSON object a line
    Ndjson,
}

/// `lmrun check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lmrun check examples/*.lmp
  lmrun check --format json agent.lmp
  lmrun check --explain E101")]
pub(crate) struct CheckOptions {
    /// The programs, `-` for standard input
    #[arg(required_unless_present = "explain")]
    pub(crate) files: Vec<PathBuf>,
    /// How findings are printed: for people on standard error, or as JSON on standard output
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "human",
        conflicts_with = "json"
    )]
    format: CheckFormat,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Explain a finding's code
    #[arg(long, value_name = "CODE")]
    pub(crate) explain: Option<String>,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// With the source lines they are about, on standard error.
    Human,
    /// As one JSON array, on standard output.
    Json,
}

impl CheckOptions {
    /// How findings are printed.
    pub(crate) fn format(&self) -> CheckFormat {
        if self.json {
            CheckFormat::Json
        } else {
            self.format
        }
    }
}

/// `lmrun models`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  lmrun models list
  lmrun models pull smollm2
  lmrun models info hf:Qwen/Qwen3-0.6B-GGUF:Q8_0
  lmrun models rm smollm2")]
pub(crate) struct ModelsOptions {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Use only models already here
    #[arg(long, global = true)]
    pub(crate) offline: bool,
}

/// What is done with models.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Which models are known, and which are here
    List,
    /// Fetch a model, or what is newer of it
    Pull {
        /// A name or hf:org/repo[:quant]
        #[arg(default_value = "smollm2")]
        model: String,
    },
    /// Describe a model
    Info {
        /// A name, a path or hf:org/repo[:quant]
        #[arg(default_value = "smollm2")]
        model: String,
    },
    /// Remove a fetched model
    Rm {
        /// A name or hf:org/repo[:quant]
        model: String,
    },
}

/// `lmrun serve`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lmrun serve
  lmrun serve --model smollm2 --port 8000
  LMRUN_API_KEY=secret lmrun serve --host 0.0.0.0")]
pub(crate) struct ServeOptions {
    /// A model's name, a path, or hf:org/repo[:quant]
    #[arg(long, default_value = "smollm2")]
    pub(crate) model: String,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port to listen on; 0 lets the system choose
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// The key every request but /health must carry; the variable does not show in process lists
    #[arg(long, env = "LMRUN_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// How long running requests may go on after SIGTERM: 20s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub(crate) drain: Duration,
    /// Use only models already here
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
}

/// `lmrun doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lmrun doctor
  lmrun doctor --json")]
pub(crate) struct DoctorOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `cpu`, `cuda`, `cuda:N` or `auto`.
fn device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "cpu" => Ok(DeviceChoice::Cpu),
        "auto" => Ok(DeviceChoice::Auto),
        "cuda" => Ok(DeviceChoice::Cuda(0)),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|ordinal| ordinal.parse().ok())
            .map(DeviceChoice::Cuda)
            .ok_or_else(|| format!("`{text}` is not a device: write cpu, cuda, cuda:1 or auto")),
    }
}

/// `q8_0` or `q4_0`.
fn quantisation(text: &str) -> Result<Quantisation, String> {
    match text.to_ascii_lowercase().as_str() {
        "q8_0" => Ok(Quantisation::Q8_0),
        "q4_0" => Ok(Quantisation::Q4_0),
        _ => Err(format!(
            "`{text}` is nothing that weights are quantised to: write q8_0 or q4_0"
        )),
    }
}

/// `bf16`, `f32`, `f16`, `int8` or `fp8`.
fn kv_format(text: &str) -> Result<KvFormat, String> {
    let all = [
        KvFormat::Plain,
        KvFormat::F32,
        KvFormat::F16,
        KvFormat::Int8,
        KvFormat::E4m3,
    ];
    let found = all.into_iter().find(|format| format.name() == text);
    found.ok_or_else(|| {
        format!("`{text}` is no type of keys and values: write bf16, f32, f16, int8 or fp8")
    })
}

/// A whole number above 0.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a whole number above 0")),
        Ok(number) => Ok(number),
    }
}

/// A number with its unit: `500ms`, `30s`, `2min`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
    {
        None | Some(0) => Err(format!("`{text}` is not a time: write 500ms, 30s or 2min")),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
    }
}
