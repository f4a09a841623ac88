//! Safetensors files.

use std::path::Path;

use ::safetensors::tensor::TensorInfo;
use ::safetensors::{Dtype, SafeTensors};

use super::CheckpointError;
use super::number::Number;
use super::stored::{Span, Stored};

/// Tensors of a file whose bytes are `map`, by name.
pub(super) fn tensors(path: &Path, map: &[u8], file: usize) -> Result<Vec<(String, Stored)>, CheckpointError> {
    let invalid = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
    // Deserialising checks that the offsets tile the file and fit shapes and types.
    SafeTensors::deserialize(map).map_err(invalid)?;
    let (header, metadata) = SafeTensors::read_metadata(map).map_err(invalid)?;
    let data = header + 8;
    let located = |(name, info): (String, &TensorInfo)| {
        let stored = locate(&name, info, file, data)?;
        Ok((name, stored))
    };
    metadata.tensors().into_iter().map(located).collect()
}

fn locate(name: &str, info: &TensorInfo, file: usize, data: usize) -> Result<Stored, CheckpointError> {
    let number = match info.dtype {
        Dtype::F64 => Number::F64,
        Dtype::F32 => Number::F32,
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::BF16,
        Dtype::F8_E4M3 => Number::F8E4M3,
        Dtype::F8_E5M2 => Number::F8E5M2,
        Dtype::F8_E8M0 => Number::F8E8M0,
        Dtype::I64 => Number::I64,
        Dtype::I32 => Number::I32,
        Dtype::I16 => Number::I16,
        Dtype::I8 => Number::I8,
        Dtype::U64 => Number::U64,
        Dtype::U32 => Number::U32,
        Dtype::U16 => Number::U16,
        Dtype::U8 => Number::U8,
        Dtype::BOOL => Number::Bool,
        other => return Err(CheckpointError::DType { name: name.to_owned(), dtype: format!("{other:?}") }),
    };
    let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
    Ok(Stored::dense(Span { file, bytes }, number, info.shape.clone()))
}
