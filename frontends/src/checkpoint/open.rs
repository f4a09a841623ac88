//! Finding and opening the files of a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::shards::Shards;
use super::stored::Stored;
use super::{Checkpoint, CheckpointError, files, gguf, mmap, quantised, safetensors, sentence, torch};

/// Formats of weights in a folder, the first that is there counts: a file, and the index of several.
pub(super) const FORMATS: [(&str, &str, Format); 2] = [
    ("model.safetensors", "model.safetensors.index.json", Format::Safetensors),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", Format::Torch),
];

const CONFIG: &str = "config.json";

/// Files of training that are no weights.
const NO_WEIGHTS: [&str; 4] = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    Torch,
    Gguf,
}

impl Format {
    /// The format of a file, by its name.
    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Format::Safetensors),
            "bin" | "pth" | "pt" => Some(Format::Torch),
            "gguf" => Some(Format::Gguf),
            _ => None,
        }
    }
}

/// The tensors of a file, by name.
type Tensors = Vec<(String, Stored)>;

impl Checkpoint {
    /// Opens a checkpoint: a folder, a GGUF file, or another file of weights with its config beside it. Of a
    /// folder, safetensors go before PyTorch's files, and these before its one `*.gguf`, `*.pth` or `*.pt`.
    ///
    /// # Errors
    /// Missing or malformed files, each named.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        if path.is_file() {
            let folder = path.parent().unwrap_or(Path::new("."));
            return match Format::of(path) {
                Some(Format::Gguf) | None => Checkpoint::open_gguf(path, None),
                Some(format) => Checkpoint::open_files(folder, &[path.to_owned()], format, None),
            };
        }
        for (single, index, format) in FORMATS {
            if path.join(single).is_file() {
                return Checkpoint::open_files(path, &[path.join(single)], format, None);
            }
            if path.join(index).is_file() {
                let shards = Shards::read(&path.join(index))?;
                shards.check_folder()?;
                let paths: Vec<PathBuf> = shards.files().iter().map(|file| path.join(file)).collect();
                return Checkpoint::open_files(path, &paths, format, Some(&shards));
            }
        }
        match only_file(path)? {
            file if Format::of(&file) == Some(Format::Gguf) => Checkpoint::open_gguf(&file, Some(path)),
            file => Checkpoint::open_files(path, &[file], Format::Torch, None),
        }
    }

    /// Opens a checkpoint of which only the config is wanted: a folder, or a config's file in one. Its tensors
    /// are those that [`Checkpoint::declare`] is told.
    ///
    /// # Errors
    /// A missing or malformed config.
    pub fn open_config(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let (folder, config) = match path.is_file() {
            true => (path.parent().unwrap_or(Path::new(".")), path.to_owned()),
            false => (path, path.join(CONFIG)),
        };
        let mut checkpoint = Checkpoint::of_config(folder, &config)?;
        quantised::resolve(&mut checkpoint.config, None, &mut checkpoint.tensors, &[])?;
        Ok(checkpoint)
    }

    fn open_files(
        folder: &Path,
        paths: &[PathBuf],
        format: Format,
        shards: Option<&Shards>,
    ) -> Result<Checkpoint, CheckpointError> {
        let mut checkpoint = Checkpoint::of_config(folder, &folder.join(CONFIG))?;
        for path in paths {
            let map = map(path)?;
            let file = checkpoint.files.len();
            let tensors = match format {
                Format::Torch => torch::tensors(&map, file)
                    .map_err(|source| CheckpointError::Torch { path: path.clone(), source })?,
                _ => safetensors::tensors(path, &map, file)?,
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            shards.map_or(Ok(()), |shards| shards.check(&name, &tensors))?;
            checkpoint.add(tensors.into_iter().map(|(name, at)| (current_name(&name), at)).collect())?;
            checkpoint.files.push(map);
        }
        for module in checkpoint.sentence.iter().flat_map(|s| s.folders.clone()).collect::<Vec<_>>() {
            let path = folder.join(&module).join("model.safetensors");
            let map = map(&path)?;
            let tensors = safetensors::tensors(&path, &map, checkpoint.files.len())?;
            let tensors = tensors.into_iter().map(|(name, at)| (format!("{module}.{name}"), at)).collect();
            checkpoint.add(tensors)?;
            checkpoint.files.push(map);
        }
        quantised::resolve(&mut checkpoint.config, Some(folder), &mut checkpoint.tensors, &checkpoint.files)?;
        Ok(checkpoint)
    }

    /// A checkpoint without any tensor.
    fn of_config(folder: &Path, config: &Path) -> Result<Checkpoint, CheckpointError> {
        let config = files::read_object(config)?;
        Ok(Checkpoint {
            generation: files::optional_object(&folder.join("generation_config.json"))?,
            sentence: sentence::read(folder, &config)?,
            config,
            folder: Some(folder.to_owned()),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            gguf: None,
        })
    }

    fn open_gguf(path: &Path, folder: Option<&Path>) -> Result<Checkpoint, CheckpointError> {
        let mut maps = vec![map(path)?];
        if !maps[0].starts_with(gguf::MAGIC) {
            return Err(CheckpointError::NoWeights(path.to_owned()));
        }
        let invalid = |source| CheckpointError::Gguf { path: path.to_owned(), source };
        let mut headers = vec![gguf::Header::parse(&maps[0]).map_err(invalid)?];
        for part in gguf::parts(&headers[0], &maps[0], path).map_err(invalid)? {
            let map = map(&part)?;
            let header = gguf::Header::parse(&map);
            headers.push(header.map_err(|source| CheckpointError::Gguf { path: part, source })?);
            maps.push(map);
        }
        let files: Vec<&[u8]> = maps.iter().map(|map| &map[..]).collect();
        let model = gguf::model(&headers, &files).map_err(invalid)?;
        let header = headers.swap_remove(0);
        let own = folder.map(|folder| files::optional_object(&folder.join("generation_config.json"))).transpose()?;
        let generation = match own.flatten() {
            Some(own) => own,
            None => gguf::generation(&header, &maps[0]).map_err(invalid)?,
        };
        let mut checkpoint = Checkpoint {
            config: model.config,
            generation: Some(generation),
            sentence: None,
            folder: folder.map(Path::to_owned),
            files: maps,
            tensors: BTreeMap::new(),
            gguf: Some((path.to_owned(), header)),
        };
        checkpoint.add(model.tensors)?;
        Ok(checkpoint)
    }

    fn add(&mut self, tensors: Tensors) -> Result<(), CheckpointError> {
        for (name, stored) in tensors {
            if self.tensors.insert(name.clone(), stored).is_some() {
                return Err(CheckpointError::Duplicate(name));
            }
        }
        Ok(())
    }
}

fn map(path: &Path) -> Result<Mmap, CheckpointError> {
    mmap::map(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The one GGUF file of a folder, or the one file of PyTorch's; the first of a split GGUF file counts for all.
pub(super) fn only_file(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let mut names = files::names(folder)?;
    names.retain(|name| !NO_WEIGHTS.contains(&name.as_str()) && !gguf::is_later_part(name));
    let of = |extensions: &[&str]| -> Vec<String> {
        let fits = |name: &&String| name.rsplit_once('.').is_some_and(|(_, own)| extensions.contains(&own));
        names.iter().filter(fits).cloned().collect()
    };
    for files in [of(&["gguf"]), of(&["pth", "pt"])] {
        match files.as_slice() {
            [] => {}
            [name] => return Ok(folder.join(name)),
            _ => return Err(CheckpointError::SeveralFiles { folder: folder.to_owned(), files }),
        }
    }
    Err(CheckpointError::NoWeights(folder.to_owned()))
}

/// The name that transformers gives a tensor now.
fn current_name(name: &str) -> String {
    let renamed = |old: &str, new: &str| name.strip_suffix(old).map(|stem| format!("{stem}{new}"));
    renamed("LayerNorm.gamma", "LayerNorm.weight")
        .or_else(|| renamed("LayerNorm.beta", "LayerNorm.bias"))
        .unwrap_or_else(|| name.to_owned())
}
