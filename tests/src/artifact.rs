//! Artifacts taken apart and put together with other parts.

use castiron_runtime::artifact::format;
use serde_json::{Map, Value, json};

/// An artifact that has other bytes in one of its tensors.
///
/// # Panics
/// With a file that is no artifact.
pub fn replace(file: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, data) = file[8..].split_at(length);
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let start = |info: &Value| info["data_offsets"][0].as_u64().unwrap() as usize;
    let end = |info: &Value| info["data_offsets"][1].as_u64().unwrap() as usize;
    let mut tensors: Vec<(&String, &Value)> = header.iter().filter(|(name, _)| *name != "__metadata__").collect();
    tensors.sort_by_key(|(_, info)| start(info));
    let mut replaced = Map::from_iter([("__metadata__".to_owned(), header["__metadata__"].clone())]);
    let mut contents = Vec::new();
    for (tensor, info) in tensors {
        let part = if tensor == name { bytes } else { &data[start(info)..end(info)] };
        let offsets = [contents.len(), contents.len() + part.len()];
        replaced.insert(tensor.clone(), json!({ "dtype": "U8", "shape": [part.len()], "data_offsets": offsets }));
        contents.extend_from_slice(part);
    }
    let mut header = serde_json::to_vec(&replaced).unwrap();
    header.resize(format::padded(header.len() + 8) - 8, b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &contents].concat()
}
