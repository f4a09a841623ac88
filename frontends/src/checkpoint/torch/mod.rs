//! Files of `torch.save`: zip archives since PyTorch 1.6, and the older sequence of pickles.
//!
//! Both hold a pickle that describes tensors in storages, and the storages' bytes, which are mapped and
//! stay where they are. The pickle is interpreted without calling anything (`pickle.rs`).

mod error;
mod globals;
mod pickle;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::number::Number;
use super::stored::{Span, Stored};
use globals::Global;
use pickle::{Object, Pickle, TensorRef, Value};
use reader::Reader;

pub use error::TorchError;

/// The pickle of the number that files of the older format begin with.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const LEGACY_PROTOCOL: i64 = 1001;
const ZIP_MAGIC: &[u8] = b"PK";

/// Keys under which training scripts put the state dict.
const NESTED: [&str; 3] = ["state_dict", "model", "module"];

/// Bytes of storages by their keys.
type Storages = HashMap<String, Range<usize>>;

/// Tensors of a file whose bytes are `map`, by name.
pub(super) fn tensors(map: &[u8], file: usize) -> Result<Vec<(String, Stored)>, TorchError> {
    let (pickle, storages) = if map.starts_with(LEGACY_MAGIC) {
        legacy(map)?
    } else if map.starts_with(ZIP_MAGIC) {
        archive(map)?
    } else {
        return Err(TorchError::Magic);
    };
    let entries = state_dict(&pickle).ok_or(TorchError::NoTensors)?;
    entries.into_iter().map(|(name, tensor)| Ok((name.to_owned(), locate(name, tensor, &storages, file)?))).collect()
}

/// The pickle of an archive, and where its other members lie.
fn archive(map: &[u8]) -> Result<(Pickle, Storages), TorchError> {
    let problem = |problem: String| TorchError::Archive(problem);
    let mut zip = ZipArchive::new(Cursor::new(map)).map_err(|e| problem(e.to_string()))?;
    let mut members = Storages::new();
    for index in 0..zip.len() {
        let member = zip.by_index_raw(index).map_err(|e| problem(e.to_string()))?;
        let name = member.name().map_err(|e| problem(e.to_string()))?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(problem(format!("`{name}` is compressed or encrypted; torch.save stores members as they are")));
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(member.size()).ok()).and_then(|(start, size)| start.checked_add(size));
        let bytes = start.zip(end).filter(|&(_, end)| end <= map.len()).map(|(start, end)| start..end);
        let bytes = bytes.ok_or_else(|| problem(format!("`{name}` goes beyond the file")))?;
        members.insert(name, bytes);
    }
    let root = members.keys().filter_map(|name| name.strip_suffix("data.pkl")).min_by_key(|root| root.len());
    let root = root.ok_or_else(|| problem("holds no data.pkl".into()))?.to_owned();
    if members.get(&format!("{root}byteorder")).is_some_and(|bytes| &map[bytes.clone()] != b"little") {
        return Err(problem("was written on a big-endian machine, which is not supported".into()));
    }
    let pickle = members[&format!("{root}data.pkl")].clone();
    let pickle = Pickle::read(&map[..pickle.end], pickle.start)?;
    let folder = format!("{root}data/");
    let storages =
        members.into_iter().filter_map(|(name, bytes)| Some((name.strip_prefix(&folder)?.to_owned(), bytes)));
    Ok((pickle, storages.collect()))
}

/// The older format: magic number, protocol, facts about the machine, the pickle, keys of the storages, and
/// the storages in that order, each after its number of elements.
fn legacy(map: &[u8]) -> Result<(Pickle, Storages), TorchError> {
    let problem = |problem: &str| TorchError::Archive(problem.into());
    let protocol = Pickle::read(map, LEGACY_MAGIC.len())?;
    if protocol.root != Value::Int(LEGACY_PROTOCOL) {
        return Err(problem("the protocol is not 1001"));
    }
    let machine = Pickle::read(map, protocol.end)?;
    let facts = machine.dict(&machine.root).ok_or_else(|| problem("no facts about the machine"))?;
    if facts.iter().any(|(key, value)| *key == Value::Text("little_endian".into()) && *value != Value::Bool(true)) {
        return Err(problem("was written on a big-endian machine, which is not supported"));
    }
    let pickle = Pickle::read(map, machine.end)?;
    let keys = Pickle::read(map, pickle.end)?;
    let Some(Object::List(list)) = keys.object(&keys.root) else { return Err(problem("no keys of storages")) };
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for object in &pickle.objects {
        if let Object::Storage(storage) = object {
            sizes.insert(&storage.key, number(storage.class).map_or(1, Number::size));
        }
    }
    let (mut reader, mut storages) = (Reader::new(map, keys.end), Storages::new());
    for key in list {
        let Value::Text(key) = key else { return Err(problem("a storage without a key")) };
        let wrong = |problem: &str| TorchError::Storage { key: key.to_string(), problem: problem.into() };
        let size = sizes.get(&**key).ok_or_else(|| wrong("is not what any tensor lies in"))?;
        let count = usize::try_from(reader.number::<8>()?).ok().and_then(|count| count.checked_mul(*size));
        let start = reader.at;
        reader.take(count.ok_or_else(|| wrong("is larger than memory"))?).map_err(|_| wrong("goes beyond the file"))?;
        storages.insert(key.to_string(), start..reader.at);
    }
    Ok((pickle, storages))
}

fn number(global: Global) -> Option<Number> {
    match global {
        Global::Storage(number) | Global::Type(number) => Some(number),
        _ => None,
    }
}

/// The tensors of the dictionary at the top, or of one that it holds under a usual name.
fn state_dict(pickle: &Pickle) -> Option<BTreeMap<&str, &TensorRef>> {
    let top = pickle.dict(&pickle.root)?;
    let nested = top.iter().filter(|(key, _)| matches!(key, Value::Text(key) if NESTED.contains(&&**key)));
    let dicts = [top].into_iter().chain(nested.filter_map(|(_, value)| pickle.dict(value)));
    let tensor = |(key, value): &'_ (Value, Value)| match (key, pickle.object(value)?) {
        (Value::Text(_), Object::Tensor(_)) => Some(()),
        _ => None,
    };
    let found = dicts.into_iter().find(|dict| dict.iter().any(|entry| tensor(entry).is_some()))?;
    let named = found.iter().filter_map(|(key, value)| match (key, pickle.object(value)?) {
        (Value::Text(key), Object::Tensor(tensor)) => Some((&**key, tensor)),
        _ => None,
    });
    Some(named.collect())
}

/// A tensor whose elements all lie in its storage.
fn locate(name: &str, tensor: &TensorRef, storages: &Storages, file: usize) -> Result<Stored, TorchError> {
    let key = &*tensor.storage.key;
    let bytes = storages.get(key).cloned();
    let bytes = bytes.ok_or_else(|| TorchError::Storage { key: key.into(), problem: "is missing".into() })?;
    let wrong = |problem: String| TorchError::Tensor { name: name.into(), problem };
    let number = tensor.dtype.and_then(number).or(number(tensor.storage.class));
    let number = number.ok_or_else(|| wrong("lies in a storage without an element type".into()))?;
    let stored = tensor.storage.count.checked_mul(number_size(tensor, number));
    if stored.and_then(|n| n.checked_add(tensor.storage.offset)).is_none_or(|n| n > bytes.len()) {
        let problem = format!("has {} bytes, its tensors need more", bytes.len());
        return Err(TorchError::Storage { key: key.into(), problem });
    }
    let count = tensor.shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
    let count = count.ok_or_else(|| wrong(format!("has the impossible shape {:?}", tensor.shape)))?;
    let reach = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(0_usize, |all, (&n, &stride)| all.checked_add(n.saturating_sub(1).checked_mul(stride)?));
    let first = tensor.storage.offset.checked_add(tensor.offset);
    let end = first
        .zip(reach)
        .and_then(|(first, reach)| first.checked_add(reach)?.checked_add(1)?.checked_mul(number.size()));
    let available = bytes.len() / number.size();
    match (first, end) {
        _ if count == 0 => {
            Ok(Stored::dense(Span { file, bytes: bytes.start..bytes.start }, number, tensor.shape.clone()))
        }
        (Some(first), Some(end)) if end <= bytes.len() && count <= available => {
            let span = Span { file, bytes: bytes.start + first * number.size()..bytes.start + end };
            let contiguous = is_row_major(&tensor.shape, &tensor.strides);
            let strides = (!contiguous).then(|| tensor.strides.clone());
            Ok(Stored::strided(span, number, tensor.shape.clone(), strides))
        }
        _ => Err(wrong(format!(
            "of shape {:?} and strides {:?} at element {} goes beyond its storage of {available}",
            tensor.shape, tensor.strides, tensor.offset
        ))),
    }
}

/// Bytes that the storage counts in: an untyped one counts bytes.
fn number_size(tensor: &TensorRef, number: Number) -> usize {
    if tensor.storage.class == Global::Untyped { 1 } else { number.size() }
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n;
        fits
    })
}

#[cfg(test)]
mod tests;
