//! Where a model comes from.

use std::path::PathBuf;

use castiron_frontends::checkpoint::source::{self, Progress, SourceError};

use super::output;

/// The path of a checkpoint or artifact; downloads are shown.
pub(super) fn locate(name: &str) -> Result<PathBuf, SourceError> {
    let mut bar = None;
    let mut show = |progress: Progress<'_>| output::download(&mut bar, progress);
    let path = source::resolve(name, &mut show);
    if let Some((_, bar)) = bar {
        bar.finish_and_clear();
    }
    path
}
