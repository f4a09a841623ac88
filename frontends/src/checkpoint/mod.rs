//! Checkpoints: a folder of safetensors or of PyTorch's files with `config.json`, or a GGUF file,
//! memory-mapped.
//!
//! [`Checkpoint`] gives all of them the same face: a config in transformers' words, tensors by transformers'
//! names, and the assets beside them. [`gguf`] and [`torch`] read their formats, `quantised` puts integers and
//! scales together that are tensors of their own, `stored` says what becomes of bytes, [`source`] finds a
//! checkpoint by its name on the hub.

mod assets;
mod error;
mod files;
pub mod gguf;
mod mmap;
mod number;
mod open;
mod quantised;
mod safetensors;
mod sentence;
mod shards;
mod slow_tokenizer;
pub mod source;
mod stored;
mod tokenizer_json;
pub mod torch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use castiron_ir::{DType, Storage, StoredTensor, Tensor, TensorSource, TextAssets};
use memmap2::Mmap;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use stored::{Recipe, Stored};

pub use error::CheckpointError;
pub use sentence::Sentence;

/// Bytes at either end of a tensor that go into the hash.
const HASHED_BYTES: usize = 4096;

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
    tensors: BTreeMap<String, Stored>,
    gguf: Option<(PathBuf, gguf::Header)>,
}

impl Checkpoint {
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

    /// Names and shapes of all tensors; none for a checkpoint of which there is only the config.
    pub fn shapes(&self) -> Option<BTreeMap<String, Vec<usize>>> {
        let has_weights = !self.files.is_empty();
        has_weights.then(|| self.tensors.iter().map(|(name, at)| (name.clone(), at.shape.clone())).collect())
    }

    /// Gives a checkpoint of which there is only the config the tensors that its model asks for, without values.
    pub fn declare(&mut self, shapes: BTreeMap<String, Vec<usize>>) {
        let storage = Storage::Dense(self.config_dtype());
        let absent = |shape| Stored { shape, storage, recipe: Recipe::Absent };
        self.tensors = shapes.into_iter().map(|(name, shape)| (name, absent(shape))).collect();
    }

    /// The type that the config says the weights have; f32 if it says none.
    fn config_dtype(&self) -> DType {
        let name = ["dtype", "torch_dtype"].iter().find_map(|key| self.config.get(*key)?.as_str());
        match name {
            Some("float16") => DType::F16,
            Some("bfloat16") => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Bytes of the files that a tensor is made of.
    pub fn stored_bytes(&self, name: &str) -> Option<usize> {
        Some(self.tensors.get(name)?.spans().iter().map(|span| span.bytes.len()).sum())
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
            hash.update(format!("\n{name} {:?} {:?}\n", at.storage, at.shape));
            for span in at.spans() {
                let bytes = span.read(&self.files);
                hash.update(&bytes[..bytes.len().min(HASHED_BYTES)]);
                hash.update(&bytes[bytes.len().saturating_sub(HASHED_BYTES)..]);
            }
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

    /// Bytes of the file itself where they lie there as transformers holds them; else they are made here.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let at = self.tensors.get(name).filter(|at| at.recipe != Recipe::Absent)?;
        Some(StoredTensor { shape: at.shape.clone(), storage: at.storage, bytes: at.read(&self.files) })
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
