//! GGUF files, versions 2 and 3 (ggml, `docs/gguf.md`).
//!
//! A file is a header, metadata by key, descriptions of tensors, and their data. Nothing in it is
//! believed: every length is checked against the file before it is used, and nothing is allocated
//! by a count that the file has not paid for in bytes.

mod cursor;
mod error;
mod llama;
mod metadata;
mod pre_tokenizer;
mod tensors;
mod tokenizer;

use serde_json::{Map, Value as Json};

use super::stored::Stored;
use cursor::Cursor;
use metadata::{Keys, Metadata};
use tensors::TensorInfo;

pub use error::GgufError;
pub(super) use tokenizer::{generation, text_assets};

/// The bytes that every GGUF file begins with.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// Whether a file's name is that of a part of a split file other than the first.
pub(super) fn is_later_part(name: &str) -> bool {
    let numbers = name.strip_suffix(".gguf").and_then(|name| name.rsplit_once("-of-"));
    numbers.and_then(|(head, _)| head.rsplit_once('-')).is_some_and(|(_, n)| n.parse::<u32>().is_ok_and(|n| n > 1))
}

/// Architectures that can be read.
const ARCHITECTURES: &[&str] = &["llama"];

/// Everything before the data.
#[derive(Debug)]
pub(super) struct Header {
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads and checks the header of a whole file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.take(MAGIC.len() as u64)? != MAGIC {
            return Err(GgufError::Magic);
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let (tensor_count, key_count) = (cursor.u64()?, cursor.u64()?);
        let metadata = Metadata::parse(&mut cursor, key_count)?;
        let alignment = metadata.alignment()?;
        let tensors = tensors::parse(&mut cursor, tensor_count, bytes.len(), alignment)?;
        Ok(Header { metadata, tensors })
    }
}

/// What transformers would hold of the same model.
pub(super) struct Model {
    pub(super) config: Map<String, Json>,
    pub(super) tensors: Vec<(String, Stored)>,
}

/// Config and tensors in transformers' words.
pub(super) fn model(header: &Header, bytes: &[u8]) -> Result<Model, GgufError> {
    let keys = Keys::new(&header.metadata, bytes);
    if keys.size("split.count")?.is_some_and(|count| count > 1) {
        return Err(GgufError::key("split.count", "says that this is one of several files, which is not supported"));
    }
    match keys.required_text("general.architecture")? {
        "llama" => llama::model(&keys, &header.tensors, bytes),
        found => Err(GgufError::Architecture { found: found.to_owned(), known: ARCHITECTURES }),
    }
}

#[cfg(test)]
mod tests;
