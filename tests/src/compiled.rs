//! Models compiled for tests.

use std::path::Path;

use castiron::compiler::{self, Options};
use castiron_backends::artifact::{Companions, Compiled};
use castiron_backends::lower::lower;
use castiron_backends::weights::WeightFormat;
use castiron_frontends::checkpoint::Checkpoint;
use castiron_ir::{Description, Generation, Module, Storage, StoredTensor, Task, TensorSource, TextAssets, storage};
use castiron_passes::Stage;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::{GpuOptions, Mask};
use castiron_runtime::session::{self, Device, Model, RunError, Session};
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tensor::TensorRef;

/// What modules without parameters are compiled from.
pub struct Nothing;

impl TensorSource for Nothing {
    fn layout(&self, _: &str) -> Option<(Storage, &[usize])> {
        None
    }
    fn tensor(&self, _: &str) -> Option<StoredTensor<'_>> {
        None
    }
}

/// Two threads of the CPU.
pub fn cpu(isa: Isa) -> session::Options {
    session::Options { threads: 2, isa, ..session::Options::default() }
}

/// The machine's best GPU, without some of its features.
pub fn gpu(mask: Mask) -> session::Options {
    let gpu = GpuOptions { mask, ..GpuOptions::default() };
    session::Options { device: Device::Gpu(gpu), ..session::Options::default() }
}

/// Compiles a checkpoint for what shall execute it.
///
/// # Errors
/// Those of the compiler and of the runtime, as text.
pub fn open(path: &Path, weights: WeightFormat, executed: session::Options) -> Result<Pipeline, String> {
    let options = Options { weights, wgsl: executed.device != Device::Cpu, ..Options::default() };
    open_with(path, &options, executed)
}

/// Compiles a checkpoint as is asked for.
///
/// # Errors
/// Those of the compiler and of the runtime, as text.
pub fn open_with(path: &Path, options: &Options, executed: session::Options) -> Result<Pipeline, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let artifact = folder.path().join("model.iron");
    let checkpoint = Checkpoint::open(path).map_err(|e| e.to_string())?;
    let compilation = compiler::compile(&checkpoint, options).map_err(|e| e.to_string())?;
    compilation.write(&artifact, &|_| {}).map_err(|e| e.to_string())?;
    Ok(Pipeline::new(Model::open(&artifact, executed).map_err(|e| e.to_string())?))
}

/// Writes an artifact of a module, with weights as the source has them, and with shaders if it shall run on
/// GPUs.
///
/// # Panics
/// When the module cannot be compiled.
pub fn write(module: &Module, source: &dyn TensorSource, task: Task, wgsl: bool, artifact: &Path) {
    let mut module = module.clone();
    storage::annotate(&mut module, source);
    let module = castiron_passes::run(&module, Stage::Kernels, &castiron_passes::Options::default()).unwrap().0;
    let description = Description {
        architecture: "Test".into(),
        task,
        labels: vec![],
        exclusive_labels: false,
        max_positions: None,
        recompute_beyond: None,
        max_input: None,
        generation: Generation::default(),
    };
    let companions = Companions { description: &description, text: &TextAssets::default(), source_hash: "none" };
    let mut compiled = Compiled::new(lower(&module).unwrap(), source, WeightFormat::Keep).unwrap();
    if wgsl {
        compiled.add_wgsl().unwrap();
    }
    compiled.write(artifact, &companions, &|_| {}).unwrap();
}

/// Feeds tokens to `step` at a position; gives the scores of the next one.
///
/// # Errors
/// Those of the runtime.
pub fn step(session: &mut Session, tokens: &[u32], past: usize) -> Result<Vec<f32>, RunError> {
    step_of(session, tokens, past, past + tokens.len())
}

/// The same, for models too that ask how long the whole row will be.
///
/// # Errors
/// Those of the runtime.
pub fn step_of(session: &mut Session, tokens: &[u32], past: usize, length: usize) -> Result<Vec<f32>, RunError> {
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    let (shape, past, last) = ([1, ids.len()], [past as i32], [ids.len() as i32 - 1]);
    let mut inputs = vec![
        ("input_ids", TensorRef::i32(&shape, &ids)?),
        ("past", TensorRef::i32(&[1], &past)?),
        ("last", TensorRef::i32(&[1], &last)?),
    ];
    let further = [("length", [length as i32]), ("count", [ids.len() as i32])];
    let takes = |name| session.model().entry("step").is_some_and(|step| step.inputs.iter().any(|(n, _)| n == name));
    for (name, value) in further.iter().filter(|(name, _)| takes(name)) {
        inputs.push((name, TensorRef::i32(&[1], value)?));
    }
    let outputs = session.run("step", &inputs)?;
    Ok(outputs.get("logits").expect("a step gives logits").as_f32()?.to_vec())
}
