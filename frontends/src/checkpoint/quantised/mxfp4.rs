//! Microscaling 4-bit floats as gpt-oss stores its experts: runs of 32 share a power of two
//! (OCP Microscaling Formats 1.0; transformers `integrations/mxfp4.py`).
//!
//! `x_blocks: u8[.., rows, groups, 16]` holds two elements in a byte, the first in the low nibble, and
//! `x_scales: u8[.., rows, groups]` the exponents. The parameter `x` has the transposed extents
//! `[.., 32·groups, rows]`.

use castiron_ir::{BlockFormat, DType, Storage};
use memmap2::Mmap;

use super::{Quantised, Tensors, misfit, stems};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::stored::{Recipe, Span, Stored};

const BYTES: usize = 16;

/// Rows of blocks, in ggml's order of bytes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::checkpoint) struct Mxfp4 {
    blocks: Span,
    scales: Span,
}

/// Puts blocks and their scales together.
pub(super) fn resolve(tensors: &mut Tensors) -> Result<(), CheckpointError> {
    for name in stems(tensors, "_blocks") {
        let (blocks, scales) = (tensors.remove(&format!("{name}_blocks")), tensors.remove(&format!("{name}_scales")));
        let (Some(blocks), Some(scales)) = (blocks, scales) else {
            return Err(misfit(&name, "has blocks without `_scales`"));
        };
        let (Recipe::Plain(block_span), Recipe::Plain(scale_span)) = (&blocks.recipe, &scales.recipe) else {
            return Err(misfit(&name, "has blocks or scales that are no bytes"));
        };
        let are_bytes = [&blocks, &scales].iter().all(|stored| stored.storage == Storage::Dense(DType::U8));
        let fits = scales.shape.len() >= 2 && blocks.shape.split_last() == Some((&BYTES, &scales.shape[..]));
        if !fits || !are_bytes {
            let problem = format!("has blocks of shape {:?} and scales of shape {:?}", blocks.shape, scales.shape);
            return Err(misfit(&name, problem));
        }
        let mut shape = scales.shape.clone();
        shape.last_mut().into_iter().for_each(|extent| *extent *= 2 * BYTES);
        let recipe = Recipe::Quantised(Box::new(Quantised::Mxfp4(Mxfp4 {
            blocks: block_span.clone(),
            scales: scale_span.clone(),
        })));
        let rows = Stored { shape, storage: Storage::Blocks(BlockFormat::Mxfp4), recipe };
        if tensors.insert(name.clone(), rows.transposed()).is_some() {
            return Err(CheckpointError::Duplicate(name));
        }
    }
    Ok(())
}

impl Mxfp4 {
    pub(super) fn spans(&self) -> Vec<Span> {
        vec![self.blocks.clone(), self.scales.clone()]
    }

    /// ggml's blocks: the exponent, then bytes whose low nibbles are the first half.
    pub(super) fn read(&self, files: &[Mmap]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blocks.bytes.len() + self.scales.bytes.len());
        for (block, scale) in self.blocks.read(files).chunks_exact(BYTES).zip(self.scales.read(files)) {
            let nibble = |i: usize| block[i / 2] >> (i % 2 * 4) & 15;
            out.push(*scale);
            out.extend((0..BYTES).map(|i| nibble(i) | nibble(i + BYTES) << 4));
        }
        out
    }
}
