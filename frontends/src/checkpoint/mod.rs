//! Checkpoints: a folder of safetensors with `config.json`, or a GGUF file, memory-mapped.
//!
//! [`Checkpoint`] gives both the same face: a config in transformers' words, tensors by transformers'
//! names, and the assets beside them. [`gguf`] reads the single-file format, [`source`] finds a
//! checkpoint by its name on the hub.

mod assets;
mod error;
mod files;
pub mod gguf;
mod mmap;
mod safetensors;
mod sentence;
mod slow_tokenizer;
pub mod source;
mod tokenizer_json;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use castiron_ir::{DType, Storage, StoredTensor, Tensor, TensorSource, TextAssets};
use memmap2::Mmap;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use error::CheckpointError;
pub use sentence::Sentence;

/// Bytes at either end of a tensor that go into the hash.
const HASHED_BYTES: usize = 4096;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq)]
struct Location {
    file: usize,
    bytes: Range<usize>,
    storage: Storage,
    shape: Vec<usize>,
    /// Heads whose rows come in rotary pairs (0, d/2, 1, d/2 + 1, …) and are to be put in halves.
    paired_heads: Option<usize>,
}

/// An opened checkpoint. Only headers have been read; tensor bytes stay on disk until asked for.
#[derive(Debug)]
pub struct Checkpoint {
    /// `config.json`, or the same put together from a GGUF file's keys.
    pub config: Map<String, Value>,
    /// `generation_config.json`, or the same put together from a GGUF file's keys.
    pub generation: Option<Map<String, Value>>,
    /// How sentences are embedded, if the checkpoint is a sentence encoder.
    pub sentence: Option<Sentence>,
    folder: Option<PathBuf>,
    files: Vec<Mmap>,
    tensors: BTreeMap<String, Location>,
    gguf: Option<(PathBuf, gguf::Header)>,
}

impl Checkpoint {
    /// Opens a checkpoint: a folder, or a GGUF file. A folder that holds safetensors is read as such,
    /// else its one `*.gguf` is.
    ///
    /// # Errors
    /// Missing or malformed files, each named.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        if path.is_file() {
            return Checkpoint::open_gguf(path, None);
        }
        let single = path.join("model.safetensors");
        let index = path.join("model.safetensors.index.json");
        let shards = match (single.is_file(), index.is_file()) {
            (true, _) => vec!["model.safetensors".to_owned()],
            (false, true) => safetensors::shards(&index)?,
            (false, false) => return Checkpoint::open_gguf(&only_gguf(path)?, Some(path)),
        };
        let config = files::read_object(&path.join("config.json"))?;
        let mut checkpoint = Checkpoint {
            generation: files::optional_object(&path.join("generation_config.json"))?,
            sentence: sentence::read(path, &config)?,
            config,
            folder: Some(path.to_owned()),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            gguf: None,
        };
        for shard in shards {
            let file = path.join(shard);
            let map = map(&file)?;
            let tensors = safetensors::tensors(&file, &map, checkpoint.files.len())?;
            checkpoint.add_file(map, tensors)?;
        }
        for folder in checkpoint.sentence.iter().flat_map(|s| s.folders.clone()).collect::<Vec<_>>() {
            let file = path.join(&folder).join("model.safetensors");
            let map = map(&file)?;
            let tensors = safetensors::tensors(&file, &map, checkpoint.files.len())?;
            let tensors = tensors.into_iter().map(|(name, at)| (format!("{folder}.{name}"), at)).collect();
            checkpoint.add_file(map, tensors)?;
        }
        Ok(checkpoint)
    }

    fn open_gguf(path: &Path, folder: Option<&Path>) -> Result<Checkpoint, CheckpointError> {
        let map = map(path)?;
        if !map.starts_with(gguf::MAGIC) {
            return Err(CheckpointError::NoWeights(path.to_owned()));
        }
        let invalid = |source| CheckpointError::Gguf { path: path.to_owned(), source };
        let header = gguf::Header::parse(&map).map_err(invalid)?;
        let model = gguf::model(&header, &map).map_err(invalid)?;
        let own = folder.map(|folder| files::optional_object(&folder.join("generation_config.json"))).transpose()?;
        let generation = match own.flatten() {
            Some(own) => own,
            None => gguf::generation(&header, &map).map_err(invalid)?,
        };
        let mut checkpoint = Checkpoint {
            config: model.config,
            generation: Some(generation),
            sentence: None,
            folder: folder.map(Path::to_owned),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            gguf: Some((path.to_owned(), header)),
        };
        checkpoint.add_file(map, model.tensors)?;
        Ok(checkpoint)
    }

    fn add_file(&mut self, map: Mmap, tensors: Vec<(String, Location)>) -> Result<(), CheckpointError> {
        for (name, location) in tensors {
            if self.tensors.insert(name.clone(), location).is_some() {
                return Err(CheckpointError::Duplicate(name));
            }
        }
        self.files.push(map);
        Ok(())
    }

    /// Names of the tensors, sorted. Names that transformers renames on loading are renamed:
    /// `LayerNorm.gamma` and `.beta` are `.weight` and `.bias`, and a GGUF file's names are the
    /// transformers model's.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, at)| (name.clone(), at.shape.clone())).collect()
    }

    /// Whether two tensors are stored with the same values in the same way.
    pub fn same_values(&self, a: &str, b: &str) -> bool {
        let [a, b] = [a, b].map(|name| TensorSource::tensor(self, name));
        a.zip(b).is_some_and(|(a, b)| (a.shape, a.storage, a.bytes) == (b.shape, b.storage, b.bytes))
    }

    /// How text becomes tokens. A folder's own files go before what its GGUF file says; a checkpoint
    /// without a tokenizer has an empty one.
    ///
    /// # Errors
    /// Files that cannot be read, or a tokenizer of an unknown kind.
    pub fn text_assets(&self) -> Result<TextAssets, CheckpointError> {
        let own = self.folder.as_ref().map(|folder| assets::read(folder, &self.config)).transpose()?;
        let own = own.unwrap_or_default();
        let Some((path, header)) = self.gguf.as_ref().filter(|_| own.tokenizer.is_empty()) else { return Ok(own) };
        let invalid = |source| CheckpointError::Gguf { path: path.clone(), source };
        let stored = gguf::text_assets(header, &self.files[0]).map_err(invalid)?;
        let chat_template = own.chat_template.or(stored.chat_template);
        let special_tokens = stored.special_tokens.into_iter().chain(own.special_tokens).collect();
        Ok(TextAssets { tokenizer: stored.tokenizer, chat_template, special_tokens })
    }

    /// SHA-256, in hexadecimal, of what tells a checkpoint from others without reading all of it:
    /// the config, and of each tensor its description and the ends of its bytes.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(Value::from(self.config.clone()).to_string());
        for (name, at) in &self.tensors {
            let bytes = &self.files[at.file][at.bytes.clone()];
            let tail = &bytes[bytes.len().saturating_sub(HASHED_BYTES)..];
            hash.update(format!("\n{name} {:?} {:?}\n", at.storage, at.shape));
            hash.update(&bytes[..bytes.len().min(HASHED_BYTES)]);
            hash.update(tail);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How a tensor's elements are stored.
    pub fn storage(&self, name: &str) -> Option<Storage> {
        self.tensors.get(name).map(|t| t.storage)
    }

    /// A tensor's values, each as `f64`; those of quantised blocks have type f32.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let stored = TensorSource::tensor(self, name)?;
        let (dtype, data) = match stored.storage {
            Storage::Dense(dtype) => {
                (dtype, stored.bytes.chunks_exact(dtype.size()).map(|b| decode(dtype, b)).collect())
            }
            Storage::Blocks(_) => {
                let mut values = vec![0.0; stored.shape.iter().product()];
                stored.read(0, &mut values);
                (DType::F32, values.into_iter().map(f64::from).collect())
            }
        };
        Some(Tensor::new(dtype, stored.shape, data))
    }
}

impl TensorSource for Checkpoint {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        self.tensors.get(name).map(|at| (at.storage, at.shape.as_slice()))
    }

    /// Bytes of the file itself, but for a GGUF file's query and key rows, which are put in
    /// transformers' order here.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let at = self.tensors.get(name)?;
        let stored = &self.files[at.file][at.bytes.clone()];
        let bytes = match at.paired_heads {
            Some(heads) => Cow::Owned(halves_from_pairs(stored, at.shape[0], heads)),
            None => Cow::Borrowed(stored),
        };
        Some(StoredTensor { shape: at.shape.clone(), storage: at.storage, bytes })
    }
}

/// Each head's rows from pairs (0, d/2, 1, d/2 + 1, …) to halves (0, 1, …, d/2, d/2 + 1, …).
fn halves_from_pairs(stored: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = stored.len() / rows.max(1);
    let mut bytes = Vec::with_capacity(stored.len());
    for head in stored.chunks_exact((stored.len() / heads).max(1)) {
        for half in 0..2 {
            head.chunks_exact(2 * row).for_each(|pair| bytes.extend_from_slice(&pair[half * row..][..row]));
        }
    }
    bytes
}

fn map(path: &Path) -> Result<Mmap, CheckpointError> {
    mmap::map(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The one GGUF file of a folder.
fn only_gguf(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let io = |source| CheckpointError::Io { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".gguf") {
            names.push(name);
        }
    }
    names.sort();
    match names.as_slice() {
        [] => Err(CheckpointError::NoWeights(folder.to_owned())),
        [name] => Ok(folder.join(name)),
        _ => Err(CheckpointError::SeveralGguf { folder: folder.to_owned(), files: names }),
    }
}

/// One little-endian element.
fn decode(dtype: DType, b: &[u8]) -> f64 {
    let wide = || [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]];
    let word = || [b[0], b[1], b[2], b[3]];
    match dtype {
        DType::F64 => f64::from_le_bytes(wide()),
        DType::F32 => f32::from_le_bytes(word()).into(),
        DType::F16 => half::f16::from_le_bytes([b[0], b[1]]).to_f64(),
        DType::BF16 => half::bf16::from_le_bytes([b[0], b[1]]).to_f64(),
        DType::I64 => i64::from_le_bytes(wide()) as f64,
        DType::I32 => i32::from_le_bytes(word()).into(),
        DType::I8 => i8::from_le_bytes([b[0]]).into(),
        DType::U8 | DType::Bool => b[0].into(),
    }
}

#[cfg(test)]
mod tests;
