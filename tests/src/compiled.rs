//! Reference folders compiled and executed.

use std::path::Path;

use castiron::compiler::{self, Options};
use castiron_backends::weights::WeightFormat;
use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::session::{self, Model};
use castiron_runtime::tasks::Pipeline;

/// Compiles a checkpoint with f32 weights, or as the checkpoint has them.
///
/// # Errors
/// Those of the compiler and of the runtime, as text.
pub fn open(path: &Path, weights: WeightFormat, isa: Isa) -> Result<Pipeline, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let artifact = folder.path().join("model.iron");
    let checkpoint = Checkpoint::open(path).map_err(|e| e.to_string())?;
    let options = Options { weights, ..Options::default() };
    let compilation = compiler::compile(&checkpoint, &options).map_err(|e| e.to_string())?;
    compilation.write(&artifact, &|_| {}).map_err(|e| e.to_string())?;
    let options = session::Options { threads: 2, isa };
    Ok(Pipeline::new(Model::open(&artifact, options).map_err(|e| e.to_string())?))
}
