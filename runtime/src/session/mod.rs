//! Models and sessions: executing the entries of an artifact.
//!
//! A [`Model`] is an artifact with what executes it: threads, or a GPU. A [`Session`] holds what
//! outlives a call: states, outputs, and the entries as they were bound to recent extents. Sessions of
//! one model take turns; each run uses all threads, or the whole GPU.
//!
//! ```text
//!  model.rs     options, models        infer.rs     symbols' values from inputs and states
//!  runner.rs    sessions               extents.rs   what the symbols of states stand for
//!  outputs.rs   results                pieces.rs    what is copied when states change
//!  executor.rs  what a device does  ─► cpu.rs with states.rs, or crate::gpu
//!  snapshot.rs  all states, saved and restored
//! ```

mod cpu;
pub(crate) mod executor;
pub(crate) mod extents;
mod infer;
pub(crate) mod model;
pub(crate) mod outputs;
pub(crate) mod pieces;
mod runner;
mod snapshot;
mod states;

pub use model::{Device, Model, Options};
pub use outputs::Outputs;
pub use runner::Session;
pub use snapshot::{Snapshot, SnapshotError};

use castiron_ir::DType;

use crate::artifact::ArtifactError;
use crate::bind::BindError;
use crate::gpu::GpuError;
use crate::memory::OutOfMemory;
use crate::tensor::TensorError;

/// Why a model cannot be opened, or a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The artifact cannot be used.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The system gives no threads.
    #[error("no threads: {0}")]
    Threads(std::io::Error),
    /// The program cannot be bound to these extents.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// A tensor that is not what it should be.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// There is no GPU, or it does not do what was asked.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// No entry of this name.
    #[error("there is no entry `{name}`, only {known}")]
    UnknownEntry {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No state of this name, or not so many instances.
    #[error("there is no instance {instance} of a state `{name}`")]
    UnknownState {
        /// The name asked for.
        name: String,
        /// The instance asked for.
        instance: usize,
    },
    /// Contents of a state that are of another type or shape.
    #[error("state `{name}` is {expected}, not {found}")]
    StateType {
        /// The state.
        name: String,
        /// What was given.
        found: String,
        /// What the model has.
        expected: String,
    },
    /// An input that is not given.
    #[error("entry `{entry}` needs input `{name}`")]
    MissingInput {
        /// The entry.
        entry: String,
        /// The input.
        name: String,
    },
    /// An input that the entry does not have, or that is given twice.
    #[error("entry `{entry}` has no input `{name}`, or it is given twice; its inputs are {known}")]
    UnknownInput {
        /// The entry.
        entry: String,
        /// The input.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An output that the entry does not have.
    #[error("entry `{entry}` has no output `{name}`, only {known}")]
    UnknownOutput {
        /// The entry.
        entry: String,
        /// The output asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An input of another element type.
    #[error("input `{name}` is {found}, the entry takes {expected}")]
    InputType {
        /// The input.
        name: String,
        /// Its element type.
        found: DType,
        /// What it should be.
        expected: DType,
    },
    /// An input of another shape than its type and the other inputs say.
    #[error("input `{name}` has shape {found:?}, the entry takes {expected}: {reason}")]
    InputShape {
        /// The input.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// Its type.
        expected: String,
        /// What does not fit.
        reason: String,
    },
    /// A symbol of the states that has no value, or one that no state has.
    #[error("symbol `{name}` {reason}; the states have {known}")]
    Symbol {
        /// The symbol.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
        /// The symbols of the states.
        known: String,
    },
    /// An index from memory that is out of range, such as a token number beyond the vocabulary. What
    /// the entry writes, states included, is then unspecified.
    #[error("index {index} from {source_name} is outside the range of {extent} in kernel `{kernel}`")]
    Index {
        /// Label of the kernel.
        kernel: String,
        /// What the index was read from.
        source_name: String,
        /// The index.
        index: i64,
        /// Indices lie below it.
        extent: usize,
    },
    /// A row that is not there when states are reordered.
    #[error("row {row} of {count} along `{symbol}` does not exist")]
    Row {
        /// The axis' symbol.
        symbol: String,
        /// The row asked for.
        row: usize,
        /// How many there are.
        count: usize,
    },
}
