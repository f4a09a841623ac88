//! Reports of launches that found an index out of range.

use crate::program::EntryProgram;
use crate::program::view::{Place, View};
use crate::session::RunError;

/// The error that the words of a launch tell of; nothing if they are 0.
///
/// The words are 1 plus the number of the kernel, the operand among the views that the kernel reads
/// and then those that it writes, the index, and what it should lie below.
pub(super) fn read(words: &[u8], entry: &EntryProgram) -> Option<RunError> {
    let word = |at: usize| words.get(4 * at..4 * at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (kernel, operand, index, extent) = (word(0)?.checked_sub(1)?, word(1)?, word(2)?, word(3)?);
    let kernel = entry.kernels.get(kernel as usize);
    let source = kernel.and_then(|kernel| {
        let (reads, writes) = kernel.body.views();
        reads.into_iter().chain(writes).nth(operand as usize).map(|view| source(view, entry))
    });
    Some(RunError::Index {
        kernel: kernel.map_or_else(|| "unknown".to_owned(), |kernel| kernel.label.clone()),
        source_name: source.unwrap_or_else(|| "an intermediate result".to_owned()),
        index: i64::from(index.cast_signed()),
        extent: extent as usize,
    })
}

/// What the index of a view is read from.
fn source(view: &View, entry: &EntryProgram) -> String {
    match view.indirect.as_ref().map(|indirect| &indirect.indices.place) {
        Some(Place::Input(number)) => format!("input `{}`", entry.inputs[*number as usize].0),
        _ => "an intermediate result".to_owned(),
    }
}
