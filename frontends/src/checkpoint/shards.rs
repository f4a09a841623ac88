//! The index of a checkpoint in several files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stored::Stored;
use super::{CheckpointError, files};

/// Which file holds which tensor.
pub(super) struct Shards {
    index: PathBuf,
    /// File of each tensor, by the name that it has there.
    tensors: BTreeMap<String, String>,
}

impl Shards {
    /// Reads an index.
    pub(super) fn read(index: &Path) -> Result<Shards, CheckpointError> {
        let problem = |problem: String| CheckpointError::Index { path: index.to_owned(), problem };
        let object = files::read_object(index)?;
        let map = object.get("weight_map").and_then(Value::as_object).ok_or_else(|| problem("is missing".into()))?;
        let mut tensors = BTreeMap::new();
        for (tensor, file) in map {
            let file = file.as_str().filter(|f| !f.is_empty() && !f.contains(['/', '\\']));
            let file = file.ok_or_else(|| problem(format!("gives no file of this folder for `{tensor}`")))?;
            tensors.insert(tensor.clone(), file.to_owned());
        }
        Ok(Shards { index: index.to_owned(), tensors })
    }

    /// Checks that every file that the index names lies beside it, and no other that looks like a part of the
    /// same checkpoint.
    pub(super) fn check_folder(&self) -> Result<(), CheckpointError> {
        let problem = |problem: String| CheckpointError::Index { path: self.index.clone(), problem };
        let named = self.files();
        let folder = self.index.parent().unwrap_or(Path::new("."));
        if let Some(missing) = named.iter().find(|file| !folder.join(file).is_file()) {
            return Err(problem(format!("names `{missing}`, which is not there")));
        }
        match self.siblings(folder)?.into_iter().find(|file| !named.contains(file)) {
            Some(extra) => Err(problem(format!("does not name `{extra}`, which lies beside it"))),
            None => Ok(()),
        }
    }

    /// The files, each once.
    pub(super) fn files(&self) -> BTreeSet<String> {
        self.tensors.values().cloned().collect()
    }

    /// Files of the folder with names like those of this index's parts: `model-00001-of-00003.safetensors` for
    /// `model.safetensors.index.json`.
    fn siblings(&self, folder: &Path) -> Result<Vec<String>, CheckpointError> {
        let name = self.index.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let whole = name.strip_suffix(".index.json").unwrap_or(&name);
        let (stem, extension) = whole.rsplit_once('.').unwrap_or((whole, ""));
        let is_part = |name: &String| {
            let inner = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
            let numbers = inner.and_then(|inner| inner.strip_prefix('-')?.split_once("-of-"));
            numbers.is_some_and(|(a, b)| [a, b].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())))
        };
        Ok(files::names(folder)?.into_iter().filter(is_part).collect())
    }

    /// Checks that a file holds the tensors that the index says it does.
    pub(super) fn check(&self, file: &str, held: &[(String, Stored)]) -> Result<(), CheckpointError> {
        let held: BTreeSet<&str> = held.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected = self.tensors.iter().filter(|(_, of)| *of == file).map(|(tensor, _)| tensor);
        match expected.find(|tensor| !held.contains(tensor.as_str())) {
            None => Ok(()),
            Some(tensor) => {
                let problem = format!("says that `{file}` holds `{tensor}`, which it does not");
                Err(CheckpointError::Index { path: self.index.clone(), problem })
            }
        }
    }
}
