//! The results of a run.

use castiron_ir::DType;

use super::executor::Results;
use crate::memory::{AlignedBytes, OutOfMemory};
use crate::program::EntryProgram;
use crate::tensor::{TensorRef, tensor_bytes};

/// The results of a run, until the next one.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    entry: &'a EntryProgram,
    types: &'a [(DType, Vec<usize>)],
    bytes: &'a [AlignedBytes],
    /// For each output, whether it was asked for.
    wanted: &'a [bool],
}

impl<'a> Outputs<'a> {
    pub(super) fn new(entry: &'a EntryProgram, results: Results<'a>, wanted: &'a [bool]) -> Outputs<'a> {
        let Results { types, bytes } = results;
        Outputs { entry, types, bytes, wanted }
    }

    /// An output by name, if it was asked for.
    pub fn get(&self, name: &str) -> Option<TensorRef<'a>> {
        self.iter().find(|(n, _)| *n == name).map(|(_, tensor)| tensor)
    }

    /// All outputs that were asked for, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, TensorRef<'a>)> + use<'a> {
        let named = self.entry.outputs.iter().zip(self.types).zip(self.bytes).zip(self.wanted);
        // The bytes suffice for this type, and are aligned to 64.
        named.filter(|(_, is_wanted)| **is_wanted).filter_map(|((((name, _), (dtype, shape)), bytes), _)| {
            let bytes = bytes.get(..tensor_bytes(*dtype, shape)?)?;
            Some((name.as_str(), TensorRef::new(*dtype, shape, bytes).ok()?))
        })
    }
}

/// Makes sure that an output has memory on the host.
///
/// # Errors
/// When the system refuses.
pub(crate) fn provide(bytes: &mut AlignedBytes, (dtype, shape): &(DType, Vec<usize>)) -> Result<usize, OutOfMemory> {
    let size = tensor_bytes(*dtype, shape).unwrap_or(usize::MAX);
    if bytes.len() < size {
        *bytes = AlignedBytes::zeroed(size)?;
    }
    Ok(size)
}

/// No memory yet for the outputs of each entry.
pub(crate) fn empty(entries: &[EntryProgram]) -> Vec<Vec<AlignedBytes>> {
    entries.iter().map(|entry| entry.outputs.iter().map(|_| AlignedBytes::default()).collect()).collect()
}
