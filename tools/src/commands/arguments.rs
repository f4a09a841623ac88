//! What the commands take.

use std::path::PathBuf;

use castiron_backends::weights::WeightFormat;
use castiron_passes::caches::CacheFormat;
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
    Demo(Demo),
    Compile(Compile),
    Run(Run),
    /// Embed sentences as vectors
    #[command(after_help = "Examples:
  castiron embed minilm.iron \"iron\" \"steel\" \"a poem\"
  castiron embed ./all-MiniLM-L6-v2 \"iron\" --json")]
    Embed(Texts),
    /// Label a text, or each of its tokens
    #[command(after_help = "Examples:
  castiron classify ./sentiment-model \"What a fine day\"
  castiron classify ./ner-model \"Ada lives in London\" --json")]
    Classify(Texts),
    FillMask(FillMask),
    Qa(Qa),
    Verify(Verify),
    Bench(Bench),
    Inspect(Inspect),
    Opt(Opt),
    /// List the GPUs of this machine
    Devices {
        /// Print one JSON array instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// What the command is told about the machine.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            Command::Demo(demo) => Some(&demo.machine),
            Command::Run(run) => Some(&run.executed.machine),
            Command::Embed(texts) | Command::Classify(texts) => Some(&texts.executed.machine),
            Command::FillMask(fill) => Some(&fill.executed.machine),
            Command::Qa(qa) => Some(&qa.executed.machine),
            Command::Verify(verify) => Some(&verify.machine),
            Command::Bench(bench) => Some(&bench.executed.machine),
            _ => None,
        }
    }
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
    /// Encoding of the weights; `keep` leaves them as the checkpoint has them [default: keep; `verify`
    /// takes f32 for quantised checkpoints, as transformers does]
    #[arg(long, value_enum)]
    pub weights: Option<Weights>,
    /// Elements of KV caches; f16 halves their memory and q8 quarters it, and keys and values are rounded when
    /// they are written
    #[arg(long, value_enum, default_value_t = Cache::F32)]
    pub cache: Cache,
    /// What to compile for, and to execute on; every artifact runs on CPUs [default: cpu, or wgsl if
    /// a --device is given]
    #[arg(long, value_enum)]
    pub target: Option<Target>,
    /// Leave a pass out; may be repeated
    #[arg(long, value_name = "PASS")]
    pub disable_pass: Vec<String>,
    /// Run the verifier after each pass
    #[arg(long)]
    pub verify_each: bool,
}

/// What a model is executed by.
#[derive(Args, Clone)]
pub(super) struct Machine {
    /// Number of threads [default: as many as the machine runs at once]
    #[arg(long)]
    pub threads: Option<usize>,
    /// `cpu`, or a GPU by its number or a part of its name; `list` lists them [default: the CPU, or
    /// the best GPU for --target wgsl]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// A model that is executed.
#[derive(Args, Clone)]
pub(super) struct Executed {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub machine: Machine,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Weights {
    Keep,
    F32,
    F16,
    Q8,
    Q4,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Cache {
    F32,
    /// On CPUs only
    F16,
    /// 8 bits with a scale for each token of a head; on CPUs only
    Q8,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    /// The CPU
    Cpu,
    /// GPUs, through shaders that the artifact holds
    Wgsl,
    /// Both
    All,
}

impl Compiling {
    pub fn options(&self) -> Options {
        let weights = match self.weights.unwrap_or(Weights::Keep) {
            Weights::Keep => WeightFormat::Keep,
            Weights::F32 => WeightFormat::F32,
            Weights::F16 => WeightFormat::F16,
            Weights::Q8 => WeightFormat::Q8,
            Weights::Q4 => WeightFormat::Q4,
        };
        let passes = castiron_passes::Options { disable: self.disable_pass.clone(), verify_each: self.verify_each };
        let wgsl = matches!(self.target, Some(Target::Wgsl | Target::All));
        let caches = match self.cache {
            Cache::F32 => CacheFormat::F32,
            Cache::F16 => CacheFormat::F16,
            Cache::Q8 => CacheFormat::Q8,
        };
        Options { weights, caches, wgsl, passes }
    }
}

/// Compile a checkpoint to one artifact
#[derive(Args)]
#[command(after_help = "Examples:
  castiron compile ./SmolLM2-135M-Instruct -o smol.iron
  castiron compile model.Q4_1.gguf --weights f32
  castiron compile ./all-MiniLM-L6-v2 --target wgsl
  castiron compile hf:sentence-transformers/all-MiniLM-L6-v2 --json
  castiron compile DeepSeek-V3/config.json --dry-run")]
pub(super) struct Compile {
    #[command(flatten)]
    pub source: Source,
    /// The artifact [default: the checkpoint's name with .iron, in the current folder]
    #[arg(short, long, value_name = "OUT.iron")]
    pub output: Option<PathBuf>,
    /// Write nothing and read no weights; report parameters, memory, kernels and FLOPs. A config.json, or a folder
    /// that holds only one, is enough
    #[arg(long, conflicts_with = "output")]
    pub dry_run: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Fetch a small real model, compile it, show what the compiler did, and let it answer
#[derive(Args)]
#[command(after_help = "Examples:
  castiron demo
  castiron demo \"Name three metals.\"
  castiron demo --model minilm")]
pub(super) struct Demo {
    /// What to ask
    #[arg(default_value = "What is cast iron, and what is it used for?")]
    pub prompt: String,
    /// Which model
    #[arg(long, value_enum, default_value_t = DemoModel::Smollm2)]
    pub model: DemoModel,
    #[command(flatten)]
    pub compiling: Compiling,
    #[command(flatten)]
    pub machine: Machine,
    /// How many tokens at most
    #[arg(long, default_value_t = 128)]
    pub max_new_tokens: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DemoModel {
    /// SmolLM2-135M-Instruct, which answers
    Smollm2,
    /// all-MiniLM-L6-v2, which compares sentences
    Minilm,
}

/// Generate text: go on from a prompt, or translate or summarise it, as the model does
///
/// Tokens are chosen one by one: the best, or one that is drawn. A model's own `num_beams` is not followed.
#[derive(Args)]
#[command(after_help = "Examples:
  castiron run smol.iron \"Why is the sky blue?\"
  castiron run ./gpt2 \"Iron is\" --max-new-tokens 40 --temperature 0.8 --seed 7
  castiron run ./gpt2 --tokens 1,2,3 --max-new-tokens 5 --json
  castiron run ./t5-small \"translate English to German: Iron is hard.\"
  castiron run ./mbart-large-50 \"Iron is hard.\" --forced-bos fr_XX")]
pub(super) struct Run {
    #[command(flatten)]
    pub executed: Executed,
    /// The prompt; put into the model's chat template if it has one. `-` reads standard input
    #[arg(value_name = "PROMPT", required_unless_present = "tokens")]
    pub prompt: Option<String>,
    /// The prompt as token numbers, used as they are
    #[arg(long, value_delimiter = ',', conflicts_with = "prompt")]
    pub tokens: Option<Vec<u32>>,
    /// Use the prompt as it is, without chat template
    #[arg(long)]
    pub raw: bool,
    /// System message of the chat
    #[arg(long, conflicts_with = "raw")]
    pub system: Option<String>,
    /// How many tokens at most [default: as the model says, else 256]
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// How many tokens before the text may end [default: as the model says]
    #[arg(long)]
    pub min_new_tokens: Option<usize>,
    /// The first token of an encoder–decoder's text, by its number or its text, such as the language to
    /// translate to
    #[arg(long, value_name = "TOKEN")]
    pub forced_bos: Option<String>,
    /// Take the best token always
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    pub greedy: bool,
    /// Draw tokens; scores are divided by this
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draw among so many of the best
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw among the best whose probabilities reach this sum
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Factor against tokens that have occurred
    #[arg(long, value_name = "F")]
    pub repetition_penalty: Option<f32>,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print tokens per second on standard error
    #[arg(long)]
    pub stats: bool,
}

/// A model that is given texts.
#[derive(Args)]
pub(super) struct Texts {
    #[command(flatten)]
    pub executed: Executed,
    /// The texts
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,
}

/// Fill in masked tokens
#[derive(Args)]
#[command(after_help = "Examples:
  castiron fill-mask ./bert-base-uncased \"Iron is a [MASK].\" --top 3")]
pub(super) struct FillMask {
    #[command(flatten)]
    pub executed: Executed,
    /// The text, with the model's mask token
    pub text: String,
    /// How many tokens for each mask
    #[arg(long, default_value_t = 5)]
    pub top: usize,
}

/// Find the answer to a question in a text
#[derive(Args)]
#[command(after_help = "Examples:
  castiron qa ./bert-squad \"Who lives in London?\" \"Ada lives in London.\"")]
pub(super) struct Qa {
    #[command(flatten)]
    pub executed: Executed,
    /// The question
    pub question: String,
    /// The text that holds the answer
    pub context: String,
}

/// Compare a compiled checkpoint with DIR/reference.safetensors
#[derive(Args)]
#[command(after_help = "Examples:
  castiron verify tests/fixtures/llama-gqa
  castiron verify tests/fixtures/llama-gqa --target wgsl --atol 1e-3 --rtol 1e-3
  CASTIRON_CPU=portable castiron verify tests/fixtures/bert-base --json")]
pub(super) struct Verify {
    /// A reference folder: a checkpoint with reference.safetensors
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub compiling: Compiling,
    /// Largest absolute difference
    #[arg(long, default_value_t = 1e-4)]
    pub atol: f64,
    /// Largest difference relative to the reference
    #[arg(long, default_value_t = 1e-4)]
    pub rtol: f64,
    #[command(flatten)]
    pub machine: Machine,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Measure speed
#[derive(Args)]
#[command(after_help = "Examples:
  castiron bench smol.iron --prompt-tokens 512 --new-tokens 128
  castiron bench minilm.iron --batch 8 --seq 128 --json
  castiron bench smol.iron --threads 2 --profile --trace smol.json
  castiron bench smol.iron --device 0 --profile")]
pub(super) struct Bench {
    #[command(flatten)]
    pub executed: Executed,
    /// Tokens of the prompt, for models that generate
    #[arg(long, default_value_t = 512)]
    pub prompt_tokens: usize,
    /// Tokens to generate
    #[arg(long, default_value_t = 128)]
    pub new_tokens: usize,
    /// Texts at once, for models that read whole texts
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Tokens of each text
    #[arg(long, default_value_t = 128)]
    pub seq: usize,
    /// Tokens of each text of a batch whose texts are not equally long
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with_all = ["batch", "seq"])]
    pub lengths: Vec<usize>,
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Show where the time goes, kernel by kernel
    #[arg(long)]
    pub profile: bool,
    /// Write the kernels of a prompt and of a token, or of a batch, to a file that Perfetto and Chrome show
    /// (CPU only)
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
}

/// Show the tensors of a checkpoint, or what the compiler makes of it, stage by stage
#[derive(Args)]
#[command(after_help = "Examples:
  castiron inspect ./SmolLM2-135M-Instruct
  castiron inspect ./SmolLM2-135M-Instruct --stage optimized --entry step
  castiron inspect smol.iron --stage kernels
  castiron inspect ./SmolLM2-135M-Instruct --stage wgsl --entry step
  castiron inspect model.ir --stage optimized --dot | dot -Tsvg > model.svg")]
pub(super) struct Inspect {
    #[command(flatten)]
    pub source: Source,
    /// What to show [default: the tensors of a checkpoint, the optimized graph of IR text, the kernels of an
    /// artifact]
    #[arg(long, value_enum)]
    pub stage: Option<InspectStage>,
    /// Print one JSON object instead of text (tensors only)
    #[arg(long, conflicts_with = "stage")]
    pub json: bool,
    /// Only this entry
    #[arg(long)]
    pub entry: Option<String>,
    /// Print the graph in Graphviz's language
    #[arg(long)]
    pub dot: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum InspectStage {
    /// The graph as the frontend wrote it
    Graph,
    /// The graph after all passes
    Optimized,
    /// The kernels
    Kernels,
    /// Where the buffers lie, for 1 row of 64 tokens and a cache of 256
    Plan,
    /// The shaders
    Wgsl,
    /// The machine code of the row programs
    Asm,
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
