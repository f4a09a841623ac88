//! Models for the commands that execute them.

use std::error::Error;
use std::path::{Path, PathBuf};

use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::session::Options;
use castiron_runtime::tasks::Pipeline;
use tempfile::TempPath;

use super::arguments::{Compiling, Executed, Source};
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
pub(super) fn artifact(source: &Source) -> Result<Artifact, Box<dyn Error>> {
    let path = source::locate(&source.source)?;
    if is_artifact(&path) { Ok(Artifact::Given(path)) } else { made(&Checkpoint::open(&path)?, &source.compiling) }
}

/// An artifact made of a checkpoint.
pub(super) fn made(checkpoint: &Checkpoint, compiling: &Compiling) -> Result<Artifact, Box<dyn Error>> {
    let compilation = compiler::compile(checkpoint, &compiling.options())?;
    Ok(Artifact::Made(compile::write_temporary(&compilation)?.0))
}

/// The model that a command line names.
pub(super) fn pipeline(executed: &Executed) -> Result<Pipeline, Box<dyn Error>> {
    Ok(Pipeline::open(artifact(&executed.source)?, options(executed.threads))?)
}

/// How to execute, with so many threads.
pub(super) fn options(threads: Option<usize>) -> Options {
    let default = Options::default();
    Options { threads: threads.unwrap_or(default.threads).max(1), ..default }
}

/// Whether a path is that of an artifact, by its name.
pub(super) fn is_artifact(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "iron") && path.is_file()
}
