//! What encoder–decoders read before they generate.

use super::TaskError;
use crate::session::Session;
use crate::tensor::TensorRef;

/// The entry that reads sources, and keeps what `step` needs of them.
const ENCODE: &str = "encode";

/// Reads one source for each row. Shorter ones are filled up and masked.
pub(super) fn read(session: &mut Session, sources: &[Vec<u32>]) -> Result<(), TaskError> {
    let length = sources.iter().map(Vec::len).max().unwrap_or(0);
    let shape = [sources.len(), length];
    let (mut ids, mut mask) = (vec![0; sources.len() * length], vec![0; sources.len() * length]);
    for (row, source) in sources.iter().enumerate() {
        for (i, &token) in source.iter().enumerate() {
            ids[row * length + i] = token as i32;
            mask[row * length + i] = 1;
        }
    }
    let inputs = [("input_ids", TensorRef::i32(&shape, &ids)?), ("attention_mask", TensorRef::i32(&shape, &mask)?)];
    session.run_for(ENCODE, &inputs, &[])?;
    Ok(())
}
