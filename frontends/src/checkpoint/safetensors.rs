//! Safetensors files, single or sharded by an index.

use std::path::Path;

use ::safetensors::tensor::TensorInfo;
use ::safetensors::{Dtype, SafeTensors};
use castiron_ir::{DType, Storage};
use serde_json::Value;

use super::{CheckpointError, Location, files};

/// Tensors of a file whose bytes are `map`, by the names that transformers gives them now.
pub(super) fn tensors(path: &Path, map: &[u8], file: usize) -> Result<Vec<(String, Location)>, CheckpointError> {
    let invalid = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
    // Deserialising checks that the offsets tile the file and fit shapes and types.
    SafeTensors::deserialize(map).map_err(invalid)?;
    let (header, metadata) = SafeTensors::read_metadata(map).map_err(invalid)?;
    let data = header + 8;
    let located = |(name, info): (String, &TensorInfo)| Ok((current_name(&name), locate(&name, info, file, data)?));
    metadata.tensors().into_iter().map(located).collect()
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
    let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
    Ok(Location { file, bytes, storage: Storage::Dense(dtype), shape: info.shape.clone(), paired_heads: None })
}

fn current_name(name: &str) -> String {
    let renamed = |old: &str, new: &str| name.strip_suffix(old).map(|stem| format!("{stem}{new}"));
    renamed("LayerNorm.gamma", "LayerNorm.weight")
        .or_else(|| renamed("LayerNorm.beta", "LayerNorm.bias"))
        .unwrap_or_else(|| name.to_owned())
}

/// Files of a sharded checkpoint, each once, in order of name.
pub(super) fn shards(index: &Path) -> Result<Vec<String>, CheckpointError> {
    let problem = |problem: String| CheckpointError::Index { path: index.to_owned(), problem };
    let object = files::read_object(index)?;
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
