//! Checkpoint folders: `config.json` and safetensors, single or sharded, memory-mapped.

mod mmap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castiron_ir::{DType, Tensor};
use memmap2::Mmap;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

/// A folder that cannot be read as a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file that cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file that is not a JSON object.
    #[error("{path}: not a JSON object: {message}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A file that is not valid safetensors.
    #[error("{path}: not a valid safetensors file: {source}")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: safetensors::SafeTensorError,
    },
    /// Neither a safetensors file nor an index.
    #[error("{0}: holds neither model.safetensors nor model.safetensors.index.json")]
    NoWeights(PathBuf),
    /// An index without a map of names to files, or with a file outside the folder.
    #[error("{path}: `weight_map` {problem}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that occurs twice.
    #[error("tensor `{0}` occurs twice in the checkpoint")]
    Duplicate(String),
    /// An element type without a counterpart in the IR.
    #[error("tensor `{name}` has element type {dtype}, which is not supported")]
    DType {
        /// The tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
    },
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Location {
    file: usize,
    start: usize,
    end: usize,
    dtype: DType,
    shape: Vec<usize>,
}

/// An opened checkpoint. Only headers have been read; tensor bytes stay on disk until asked for.
#[derive(Debug)]
pub struct Checkpoint {
    /// `config.json`.
    pub config: Map<String, Value>,
    files: Vec<Mmap>,
    tensors: BTreeMap<String, Location>,
}

impl Checkpoint {
    /// Opens a checkpoint folder.
    ///
    /// # Errors
    /// Missing or malformed files, each named.
    pub fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
        let config = read_object(&folder.join("config.json"))?;
        let mut checkpoint = Checkpoint { config, files: Vec::new(), tensors: BTreeMap::new() };
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        if single.is_file() {
            checkpoint.add_file(&single)?;
        } else if index.is_file() {
            for shard in shards(&index)? {
                checkpoint.add_file(&folder.join(shard))?;
            }
        } else {
            return Err(CheckpointError::NoWeights(folder.to_owned()));
        }
        Ok(checkpoint)
    }

    /// Names of the tensors, sorted. Names that transformers renames on loading are renamed:
    /// `LayerNorm.gamma` and `.beta` are `.weight` and `.bias`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// A tensor's values, each as `f64`.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let at = self.tensors.get(name)?;
        let bytes = &self.files[at.file][at.start..at.end];
        let data = bytes.chunks_exact(at.dtype.size()).map(|b| decode(at.dtype, b)).collect();
        Some(Tensor::new(at.dtype, at.shape.clone(), data))
    }

    fn add_file(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        let invalid = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
        let map = mmap::map(path).map_err(io)?;
        // Deserialising checks that the offsets tile the file and fit shapes and types.
        SafeTensors::deserialize(&map).map_err(invalid)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(invalid)?;
        let data = header + 8;
        for (name, info) in metadata.tensors() {
            let location = locate(&name, info, self.files.len(), data)?;
            let renamed = current_name(&name);
            if self.tensors.insert(renamed, location).is_some() {
                return Err(CheckpointError::Duplicate(name));
            }
        }
        self.files.push(map);
        Ok(())
    }
}

fn locate(name: &str, info: &TensorInfo, file: usize, data: usize) -> Result<Location, CheckpointError> {
    let dtype = match info.dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        other => return Err(CheckpointError::DType { name: name.to_owned(), dtype: format!("{other:?}") }),
    };
    let (start, end) = (data + info.data_offsets.0, data + info.data_offsets.1);
    Ok(Location { file, start, end, dtype, shape: info.shape.clone() })
}

fn current_name(name: &str) -> String {
    let renamed = |old: &str, new: &str| name.strip_suffix(old).map(|stem| format!("{stem}{new}"));
    renamed("LayerNorm.gamma", "LayerNorm.weight")
        .or_else(|| renamed("LayerNorm.beta", "LayerNorm.bias"))
        .unwrap_or_else(|| name.to_owned())
}

fn read_object(path: &Path) -> Result<Map<String, Value>, CheckpointError> {
    let text = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|e| CheckpointError::Json { path: path.to_owned(), message: e.to_string() })
}

/// Files of a sharded checkpoint, each once, in order of name.
fn shards(index: &Path) -> Result<Vec<String>, CheckpointError> {
    let problem = |problem: String| CheckpointError::Index { path: index.to_owned(), problem };
    let object = read_object(index)?;
    let map = object.get("weight_map").and_then(Value::as_object).ok_or_else(|| problem("is missing".into()))?;
    let mut files: Vec<String> = Vec::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|f| !f.is_empty() && !f.contains(['/', '\\']));
        files.push(file.ok_or_else(|| problem(format!("gives no file of this folder for `{tensor}`")))?.to_owned());
    }
    files.sort();
    files.dedup();
    Ok(files)
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
