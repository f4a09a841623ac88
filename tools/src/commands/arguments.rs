//! What the commands take.

use std::path::PathBuf;

use castiron_backends::weights::WeightFormat;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::compiler::Options;

/// An ahead-of-time compiler for Hugging Face models.
#[derive(Parser)]
#[command(name = "castiron", version, propagate_version = true, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    Compile(Compile),
    Inspect(Inspect),
    Opt(Opt),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where a model comes from and how it is compiled.
#[derive(Args, Clone)]
pub(super) struct Source {
    /// Checkpoint folder, .gguf file, hf:org/name, or a compiled .iron artifact
    #[arg(value_name = "SRC")]
    pub source: String,
    #[command(flatten)]
    pub compiling: Compiling,
}

#[derive(Args, Clone)]
pub(super) struct Compiling {
    /// Encoding of the weights; `keep` leaves them as the checkpoint has them
    #[arg(long, value_enum, default_value_t = Weights::Keep)]
    pub weights: Weights,
    /// Leave a pass out; may be repeated
    #[arg(long, value_name = "PASS")]
    pub disable_pass: Vec<String>,
    /// Run the verifier after each pass
    #[arg(long)]
    pub verify_each: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Weights {
    Keep,
    F32,
    F16,
    Q8,
    Q4,
}

impl Compiling {
    pub fn options(&self) -> Options {
        let weights = match self.weights {
            Weights::Keep => WeightFormat::Keep,
            Weights::F32 => WeightFormat::F32,
            Weights::F16 => WeightFormat::F16,
            Weights::Q8 => WeightFormat::Q8,
            Weights::Q4 => WeightFormat::Q4,
        };
        let passes = castiron_passes::Options { disable: self.disable_pass.clone(), verify_each: self.verify_each };
        Options { weights, passes }
    }
}

/// Compile a checkpoint to one artifact
#[derive(Args)]
#[command(after_help = "Examples:
  castiron compile ./SmolLM2-135M-Instruct -o smol.iron
  castiron compile model.Q4_1.gguf --weights f32
  castiron compile hf:sentence-transformers/all-MiniLM-L6-v2 --json")]
pub(super) struct Compile {
    #[command(flatten)]
    pub source: Source,
    /// The artifact [default: the checkpoint's name with .iron, in the current folder]
    #[arg(short, long, value_name = "OUT.iron")]
    pub output: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Show what the compiler makes of a model, stage by stage
#[derive(Args)]
#[command(after_help = "Examples:
  castiron inspect ./SmolLM2-135M-Instruct --stage optimized --entry step
  castiron inspect smol.iron --stage kernels
  castiron inspect model.ir --dot | dot -Tsvg > model.svg")]
pub(super) struct Inspect {
    #[command(flatten)]
    pub source: Source,
    /// What to show
    #[arg(long, value_enum, default_value_t = InspectStage::Optimized)]
    pub stage: InspectStage,
    /// Only this entry
    #[arg(long)]
    pub entry: Option<String>,
    /// Print the graph in Graphviz's language
    #[arg(long)]
    pub dot: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum InspectStage {
    /// The graph as the frontend wrote it
    Graph,
    /// The graph after all passes
    Optimized,
    /// The kernels
    Kernels,
}

/// Run passes on IR text
#[derive(Args)]
#[command(after_help = "Examples:
  castiron opt model.ir --pass canonicalize --pass cse
  castiron opt model.ir --list")]
pub(super) struct Opt {
    /// A file of IR text; `-` reads standard input
    #[arg(value_name = "FILE.ir", required_unless_present = "list")]
    pub file: Option<PathBuf>,
    /// A pass; several run in the given order. Without any, the whole pipeline runs
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub pass: Vec<String>,
    /// List the passes
    #[arg(long)]
    pub list: bool,
}

pub(super) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "castiron", &mut std::io::stdout());
}
