//! Where a model comes from.

use std::path::PathBuf;

/// The path of a checkpoint or artifact.
pub(super) fn locate(source: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(source);
    if path.exists() { Ok(path) } else { Err(format!("{source}: no such file or folder")) }
}
