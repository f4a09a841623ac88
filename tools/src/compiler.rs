//! The compiler on one page: from a checkpoint to an artifact.

use std::path::Path;
use std::time::{Duration, Instant};

use castiron_backends::artifact::{Companions, Compiled, WriteError};
use castiron_backends::lower::{LowerError, lower};
use castiron_backends::weights::{WeightError, WeightFormat};
use castiron_backends::wgsl::WgslError;
use castiron_frontends::checkpoint::{Checkpoint, CheckpointError};
use castiron_frontends::models::{self, Model, ModelError};
use castiron_ir::{Description, Module, storage};
use castiron_passes::caches::{self, CacheFormat};
use castiron_passes::{PassError, Report, Stage};

/// A checkpoint that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No graph can be built from it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph has an op that no kernel computes.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A weight cannot be had.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The kernels cannot be written in WGSL.
    #[error(transparent)]
    Wgsl(#[from] WgslError),
    /// Caches that shaders cannot write.
    #[error("shaders do not write KV caches of f16 or q8; compile for the CPU alone, or with `--cache f32`")]
    NarrowCaches,
    /// The artifact cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// How to compile.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Encoding of the weights.
    pub weights: WeightFormat,
    /// What KV caches hold; nothing but f32 for GPUs.
    pub caches: CacheFormat,
    /// Whether the artifact shall run on GPUs, too.
    pub wgsl: bool,
    /// Passes to leave out, and whether the verifier runs after each.
    pub passes: castiron_passes::Options,
}

/// A compiled model, not yet written.
pub struct Compilation<'a> {
    /// What the model is for.
    pub description: Description,
    /// What each pass did.
    pub reports: Vec<Report>,
    /// Number of ops of the graph before all passes.
    pub ops: usize,
    /// The kernel program.
    pub compiled: Compiled<'a>,
    /// How long it took.
    pub time: Duration,
    checkpoint: &'a Checkpoint,
}

/// Compiles a checkpoint: builds the graph, optimises it, divides it into kernels, lowers them, chooses the
/// encoding of the weights, and writes shaders if they are asked for. The weights' bytes are made when the
/// artifact is written.
///
/// # Errors
/// Whatever is wrong with the checkpoint, with the names and numbers needed to mend it.
pub fn compile<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Compilation<'a>, CompileError> {
    let start = Instant::now();
    if options.wgsl && options.caches != CacheFormat::F32 {
        return Err(CompileError::NarrowCaches);
    }
    let Model { module, description, .. } = model(checkpoint, options)?;
    let (kernels, reports) = castiron_passes::run(&module, Stage::Kernels, &options.passes)?;
    let lowered = lower(&kernels)?;
    let mut compiled = Compiled::new(lowered, checkpoint, options.weights)?;
    if options.wgsl {
        compiled.add_wgsl()?;
    }
    let ops = op_count(&module);
    Ok(Compilation { description, reports, ops, compiled, time: start.elapsed(), checkpoint })
}

/// The graph as built; weights that are kept say how they are stored, and caches have the format that is asked
/// for.
fn model(checkpoint: &Checkpoint, options: &Options) -> Result<Model, CompileError> {
    let mut model = models::of(checkpoint)?;
    if options.weights == WeightFormat::Keep {
        storage::annotate(&mut model.module, checkpoint);
    }
    caches::narrow(&mut model.module, options.caches)?;
    Ok(model)
}

/// The graph of a checkpoint, as built or after a stage of the pipeline.
///
/// # Errors
/// As [`compile`].
pub fn graph(checkpoint: &Checkpoint, stage: Option<Stage>, options: &Options) -> Result<Module, CompileError> {
    let model = model(checkpoint, options)?;
    match stage {
        None => Ok(model.module),
        Some(stage) => Ok(castiron_passes::run(&model.module, stage, &options.passes)?.0),
    }
}

impl Compilation<'_> {
    /// Writes the artifact; gives its size. `progress` is told how many bytes of weights are done.
    ///
    /// # Errors
    /// A file system that refuses, or weights that cannot be had; no file is left behind.
    pub fn write(&self, path: &Path, progress: &dyn Fn(u64)) -> Result<u64, CompileError> {
        let text = self.checkpoint.text_assets()?;
        let source_hash = self.checkpoint.hash();
        let companions = Companions { description: &self.description, text: &text, source_hash: &source_hash };
        Ok(self.compiled.write(path, &companions, progress)?)
    }

    /// Number of kernels of all entries, each loop's body counted once.
    pub fn kernels(&self) -> usize {
        self.compiled.program.entries.iter().map(|e| e.kernels.len()).sum()
    }
}

/// Number of ops of a module, each loop's body counted once.
pub fn op_count(module: &Module) -> usize {
    module.entries.iter().map(|e| e.body.op_count()).sum()
}
