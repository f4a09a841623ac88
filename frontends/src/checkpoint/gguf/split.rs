//! Files in several parts, as llama.cpp's `gguf-split` writes them: `NAME-00001-of-00003.gguf` and so on. The
//! first part has all keys, and each has descriptions of its own tensors.

use std::path::{Path, PathBuf};

use super::metadata::Keys;
use super::{GgufError, Header};

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";
/// Most parts, as many as five digits can count.
const MOST: usize = 99_999;

/// Whether a file's name is that of a part other than the first.
pub(in crate::checkpoint) fn is_later_part(name: &str) -> bool {
    let numbers = name.strip_suffix(".gguf").and_then(|name| name.rsplit_once("-of-"));
    numbers.and_then(|(head, _)| head.rsplit_once('-')).is_some_and(|(_, n)| n.parse::<u32>().is_ok_and(|n| n > 1))
}

/// The other parts of a model whose first file is at `path`; none for a model of one file.
pub(in crate::checkpoint) fn parts(header: &Header, bytes: &[u8], path: &Path) -> Result<Vec<PathBuf>, GgufError> {
    let keys = Keys::new(&header.metadata, bytes);
    let count = keys.size(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    if count > MOST {
        return Err(GgufError::key(COUNT, "counts more parts than names can"));
    }
    if keys.size(NUMBER)? != Some(0) {
        return Err(GgufError::key(NUMBER, "says that this is not the first of several files; name the first one"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = format!("-00001-of-{count:05}.gguf");
    let stem = name.strip_suffix(&suffix);
    let stem = stem.ok_or_else(|| GgufError::key(COUNT, format!("says that the file's name ends in `{suffix}`")))?;
    Ok((2..=count).map(|n| path.with_file_name(format!("{stem}-{n:05}-of-{count:05}.gguf"))).collect())
}

/// Checks that the parts are those of one model.
pub(super) fn check(headers: &[Header], files: &[&[u8]]) -> Result<(), GgufError> {
    if headers.len() == 1 {
        return Ok(());
    }
    for (number, (header, bytes)) in headers.iter().zip(files).enumerate() {
        let keys = Keys::new(&header.metadata, bytes);
        if keys.size(NUMBER)? != Some(number) || keys.size(COUNT)? != Some(headers.len()) {
            let problem = format!("and `{COUNT}` are not {number} and {} in part {}", headers.len(), number + 1);
            return Err(GgufError::key(NUMBER, problem));
        }
    }
    let expected = Keys::new(&headers[0].metadata, files[0]).size(TENSORS)?;
    let found: usize = headers.iter().map(|header| header.tensors.len()).sum();
    match expected.filter(|&expected| expected != found) {
        Some(expected) => Err(GgufError::key(TENSORS, format!("says {expected}, the parts have {found}"))),
        None => Ok(()),
    }
}
