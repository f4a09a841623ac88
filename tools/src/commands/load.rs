//! Models for the commands that execute them.

use std::error::Error;
use std::path::{Path, PathBuf};

use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::gpu::GpuOptions;
use castiron_runtime::session::{Device, Model, Options};
use castiron_runtime::tasks::Pipeline;
use tempfile::TempPath;

use super::arguments::{Compiling, Executed, Machine, Source, Target};
use super::{compile, source};
use crate::compiler;

/// An artifact that was given, or one that was made of a checkpoint and goes with this value.
pub(super) enum Artifact {
    Given(PathBuf),
    Made(TempPath),
}

impl AsRef<Path> for Artifact {
    fn as_ref(&self) -> &Path {
        match self {
            Artifact::Given(path) => path,
            Artifact::Made(path) => path,
        }
    }
}

/// The artifact that a command line names, or one made of the checkpoint that it names.
pub(super) fn artifact(source: &Source, machine: &Machine) -> Result<Artifact, Box<dyn Error>> {
    let path = source::locate(&source.source)?;
    if is_artifact(&path) {
        return Ok(Artifact::Given(path));
    }
    made(&Checkpoint::open(&path)?, &source.compiling, machine)
}

/// An artifact made of a checkpoint, for the machine that shall execute it.
pub(super) fn made(
    checkpoint: &Checkpoint,
    compiling: &Compiling,
    machine: &Machine,
) -> Result<Artifact, Box<dyn Error>> {
    let compilation = compiler::compile(checkpoint, &compiler_options(compiling, machine))?;
    Ok(Artifact::Made(compile::write_temporary(&compilation)?.0))
}

/// How to compile for the machine that shall execute it.
pub(super) fn compiler_options(compiling: &Compiling, machine: &Machine) -> compiler::Options {
    let mut options = compiling.options();
    options.wgsl |= device(compiling, machine) != Device::Cpu;
    options
}

/// The model that a command line names.
pub(super) fn pipeline(executed: &Executed) -> Result<Pipeline, Box<dyn Error>> {
    let artifact = artifact(&executed.source, &executed.machine)?;
    Ok(Pipeline::open(artifact, options(&executed.source.compiling, &executed.machine))?)
}

/// How to execute.
pub(super) fn options(compiling: &Compiling, machine: &Machine) -> Options {
    let default = Options::default();
    let threads = machine.threads.unwrap_or(default.threads).max(1);
    Options { threads, device: device(compiling, machine), ..default }
}

/// A device that is asked for by name, or the one that suits the target.
fn device(compiling: &Compiling, machine: &Machine) -> Device {
    match machine.device.as_deref() {
        Some("cpu") => Device::Cpu,
        None if compiling.target != Some(Target::Wgsl) => Device::Cpu,
        adapter => Device::Gpu(GpuOptions { adapter: adapter.map(str::to_owned), ..GpuOptions::default() }),
    }
}

/// What executes a model, for people.
pub(super) fn executor(model: &Model) -> String {
    match model.adapter() {
        Some((adapter, _)) => format!("{} through {}", adapter.name, adapter.backend),
        None => format!("{} threads", model.threads()),
    }
}

/// Whether a path is that of an artifact, by its name.
pub(super) fn is_artifact(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "iron") && path.is_file()
}
