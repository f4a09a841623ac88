//! Models for the commands that execute them.

use std::error::Error;
use std::path::Path;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::session::Options;
use castiron_runtime::tasks::Pipeline;

use super::arguments::{Compiling, Executed};
use super::{compile, source};
use crate::compiler;

/// Opens an artifact, or compiles a checkpoint to a file that lasts as long as the process needs it.
pub(super) fn pipeline(executed: &Executed) -> Result<Pipeline, Box<dyn Error>> {
    let path = source::locate(&executed.source.source)?;
    open(&path, &executed.source.compiling, executed.threads)
}

/// As [`pipeline`], by path.
pub(super) fn open(path: &Path, compiling: &Compiling, threads: Option<usize>) -> Result<Pipeline, Box<dyn Error>> {
    let options = options(threads);
    if is_artifact(path) {
        return Ok(Pipeline::open(path, options)?);
    }
    let checkpoint = Checkpoint::open(path)?;
    let compilation = compiler::compile(&checkpoint, &compiling.options())?;
    let folder = tempfile::tempdir()?;
    let artifact = folder.path().join("model.iron");
    compile::write(&compilation, &artifact)?;
    Ok(Pipeline::open(&artifact, options)?)
}

/// How to execute, with so many threads.
pub(super) fn options(threads: Option<usize>) -> Options {
    let default = Options::default();
    Options { threads: threads.unwrap_or(default.threads).max(1), ..default }
}

/// Whether a path is that of an artifact, by its name.
pub(super) fn is_artifact(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e == "iron")
}
