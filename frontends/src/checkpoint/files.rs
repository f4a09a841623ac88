//! Small files of a checkpoint folder, each of which may be absent.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use super::CheckpointError;

/// Names of the files of a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = entries.map(name).collect::<std::io::Result<Vec<_>>>().map_err(io)?;
    names.sort();
    Ok(names)
}

/// A JSON object that must be there.
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>, CheckpointError> {
    let text = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// A file's bytes; nothing if there is no such file.
pub(super) fn optional(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(CheckpointError::Io { path: path.to_owned(), source }),
    }
}

/// A file's text; nothing if there is no such file.
pub(super) fn optional_text(path: &Path) -> Result<Option<String>, CheckpointError> {
    let text = |bytes| String::from_utf8(bytes).map_err(|_| content(path, "is not UTF-8"));
    optional(path)?.map(text).transpose()
}

/// A JSON object; nothing if there is no such file.
pub(super) fn optional_object(path: &Path) -> Result<Option<Map<String, Value>>, CheckpointError> {
    optional(path)?.map(|text| parse(path, &text)).transpose()
}

/// A JSON array of objects; nothing if there is no such file.
pub(super) fn optional_list(path: &Path) -> Result<Option<Vec<Map<String, Value>>>, CheckpointError> {
    optional(path)?.map(|text| parse(path, &text)).transpose()
}

fn parse<T: for<'de> serde::Deserialize<'de>>(path: &Path, text: &[u8]) -> Result<T, CheckpointError> {
    let parsed = serde_json::from_slice(text).or_else(|error| match standard(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    });
    parsed.map_err(|e| CheckpointError::Json { path: path.to_owned(), message: e.to_string() })
}

/// JSON in which numbers that JSON lacks, and that Python writes nonetheless, are objects, as newer versions of
/// transformers write them: `{"__float__": "Infinity"}`. Nothing if there are no such numbers.
fn standard(text: &[u8]) -> Option<Vec<u8>> {
    const LACKING: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut in_string, mut found) = (0, false, false);
    while let Some(&byte) = text.get(at) {
        let number = LACKING.iter().find(|number| !in_string && text[at..].starts_with(number.as_bytes()));
        if let Some(number) = number {
            out.extend_from_slice(format!("{{\"__float__\":\"{number}\"}}").as_bytes());
            (at, found) = (at + number.len(), true);
            continue;
        }
        in_string ^= byte == b'"';
        let width = if in_string && byte == b'\\' { 2 } else { 1 };
        out.extend_from_slice(&text[at..text.len().min(at + width)]);
        at += width;
    }
    found.then_some(out)
}

/// An error about what a file says.
pub(super) fn content(path: &Path, problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Content { path: path.to_owned(), problem: problem.into() }
}

/// A value of an object, `null` counting as absent, or the error that names file and key.
pub(super) fn value<T>(
    path: &Path,
    object: &Map<String, Value>,
    key: &str,
    expected: &str,
    convert: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, CheckpointError> {
    let Some(value) = object.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let wrong = || content(path, format!("`{key}` is {value}, expected {expected}"));
    convert(value).map(Some).ok_or_else(wrong)
}
