//! States in the memory of the host: tensors that outlive a call.

use super::RunError;
use super::extents::{Extents, axis};
use super::pieces::{Piece, common, selected};
use crate::memory::OutOfMemory;
use crate::program::Program;
use crate::tensor::Tensor;

/// The states of a session.
pub(super) struct States {
    /// Instances of each state.
    tensors: Vec<Vec<Tensor>>,
}

impl States {
    /// States of zeros.
    pub fn new(program: &Program, extents: &Extents) -> Result<States, RunError> {
        let mut tensors = Vec::new();
        for slot in &program.states {
            let shape = extents.shape(slot)?;
            let instances = (0..slot.instances).map(|_| Tensor::zeros(slot.ty.dtype, &shape));
            tensors.push(instances.collect::<Result<_, OutOfMemory>>()?);
        }
        Ok(States { tensors })
    }

    /// The instances of each state.
    pub fn tensors(&self) -> &[Vec<Tensor>] {
        &self.tensors
    }

    /// The instances of each state.
    pub fn tensors_mut(&mut self) -> &mut [Vec<Tensor>] {
        &mut self.tensors
    }

    /// Sets everything to zero.
    pub fn reset(&mut self) {
        self.tensors.iter_mut().flatten().for_each(|tensor| tensor.bytes_mut().fill(0));
    }

    /// Gives the states other extents; what fits both is kept. A failure changes nothing.
    pub fn resize(&mut self, program: &Program, extents: &Extents) -> Result<(), RunError> {
        let mut resized = States::new(program, extents)?;
        for (old, new) in self.tensors.iter().flatten().zip(resized.tensors.iter_mut().flatten()) {
            let (old, shape) = (old.view(), new.view().shape().to_vec());
            let bytes = new.bytes_mut();
            let mut copy = |piece: Piece| {
                bytes[piece.to..][..piece.bytes].copy_from_slice(&old.bytes()[piece.from..][..piece.bytes]);
            };
            common(old.shape(), &shape, old.dtype().size(), &mut copy);
        }
        *self = resized;
        Ok(())
    }

    /// Replaces row `i` along a symbol's axis by what was row `rows[i]`; all these rows exist.
    pub fn select(&mut self, program: &Program, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        for (slot, instances) in program.states.iter().zip(&mut self.tensors) {
            let Some(axis) = axis(slot, symbol) else { continue };
            for tensor in instances {
                let old = tensor.view().to_owned()?;
                let old = old.view();
                let bytes = tensor.bytes_mut();
                let mut copy = |piece: Piece| {
                    bytes[piece.to..][..piece.bytes].copy_from_slice(&old.bytes()[piece.from..][..piece.bytes]);
                };
                selected(old.shape(), axis, rows, slot.ty.dtype.size(), &mut copy);
            }
        }
        Ok(())
    }
}
