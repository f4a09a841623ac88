//! GGUF files, versions 2 and 3 (ggml, `docs/gguf.md`), of one part or several.
//!
//! A file is a header, metadata by key, descriptions of tensors, and their data. Nothing in it is
//! believed: every length is checked against the file before it is used, and nothing is allocated
//! by a count that the file has not paid for in bytes. What tensors and keys are called in transformers is data:
//! `tables` and `mixtures` have one for each architecture, `architecture` follows it.

mod architecture;
mod cursor;
mod error;
mod metadata;
mod mixtures;
mod pre_tokenizer;
mod rope;
mod split;
mod tables;
mod tensors;
mod tokenizer;

use serde_json::{Map, Value as Json};

use super::stored::Stored;
use cursor::Cursor;
use metadata::{Keys, Metadata};
use tensors::TensorInfo;

pub use error::GgufError;
pub(super) use split::{is_later_part, parts};
pub(super) use tokenizer::{generation, text_assets};

/// The bytes that every GGUF file begins with.
pub(super) const MAGIC: &[u8] = b"GGUF";

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

/// Config and tensors in transformers' words; the first of several files has the keys.
pub(super) fn model(headers: &[Header], files: &[&[u8]]) -> Result<Model, GgufError> {
    let keys = Keys::new(&headers[0].metadata, files[0]);
    split::check(headers, files)?;
    let infos =
        headers.iter().enumerate().flat_map(|(file, header)| header.tensors.iter().map(move |info| info.of_file(file)));
    architecture::model(&keys, &infos.collect::<Vec<_>>(), files)
}

#[cfg(test)]
mod tests;
