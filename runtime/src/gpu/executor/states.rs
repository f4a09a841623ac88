//! States on the device: tensors that outlive a call, changed where they lie.

use castiron_ir::DType;
use wgpu::{Buffer, BufferUsages, CommandEncoder};

use super::GpuError;
use super::device::{Gpu, WORD};
use super::staging::Staging;
use crate::memory::OutOfMemory;
use crate::program::Program;
use crate::session::RunError;
use crate::session::extents::{Extents, axis};
use crate::session::pieces::{Piece, common, selected};
use crate::tensor::{Tensor, tensor_bytes};

/// The states of a session.
pub(super) struct States {
    /// For each state.
    states: Vec<State>,
    /// Rows on their way from one place of a state to another.
    spare: Option<Buffer>,
}

/// A state.
struct State {
    dtype: DType,
    shape: Vec<usize>,
    instances: Vec<Buffer>,
}

impl State {
    fn bytes(&self) -> usize {
        // There are buffers of this size.
        tensor_bytes(self.dtype, &self.shape).unwrap_or(0)
    }
}

impl States {
    /// States of zeros.
    ///
    /// # Errors
    /// More than a buffer can have, or no memory.
    pub fn new(gpu: &Gpu, program: &Program, extents: &Extents) -> Result<States, RunError> {
        let mut states = Vec::new();
        for slot in &program.states {
            let (dtype, shape) = (slot.ty.dtype, extents.shape(slot)?);
            let bytes = tensor_bytes(dtype, &shape).ok_or(OutOfMemory(usize::MAX))? as u64;
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let name = format!("state `{}`", slot.name);
            let instances = (0..slot.instances).map(|_| gpu.buffer(&name, bytes, usage));
            let instances = instances.collect::<Result<_, _>>()?;
            states.push(State { dtype, shape, instances });
        }
        Ok(States { states, spare: None })
    }

    /// An instance of a state, which is there in valid programs.
    pub fn buffer(&self, number: usize, instance: usize) -> &Buffer {
        &self.states[number].instances[instance]
    }

    /// Sets everything to zero.
    ///
    /// # Errors
    /// The loss of the device.
    pub fn reset(&self, gpu: &Gpu) -> Result<(), GpuError> {
        submit(gpu, "zeros", |encoder| {
            self.states.iter().flat_map(|state| &state.instances).for_each(|b| encoder.clear_buffer(b, 0, None));
        })
    }

    /// Gives the states other extents; what fits both is kept. A failure changes nothing.
    ///
    /// # Errors
    /// No memory, or the loss of the device.
    pub fn resize(&mut self, gpu: &Gpu, program: &Program, extents: &Extents) -> Result<(), RunError> {
        let resized = States::new(gpu, program, extents)?;
        for (old, new) in self.states.iter().zip(&resized.states) {
            let pieces = Pieces::collect(|visit| common(&old.shape, &new.shape, old.dtype.size(), visit));
            for (from, to) in old.instances.iter().zip(&new.instances) {
                if pieces.are_words {
                    submit(gpu, "the states' new extents", |encoder| pieces.copy(encoder, from, to))?;
                } else {
                    let bytes = self.read(gpu, &mut Staging::default(), from)?;
                    let changed = pieces.apply(&bytes, vec![0; padded(new.bytes())]);
                    write(gpu, to, &changed)?;
                }
            }
        }
        *self = resized;
        Ok(())
    }

    /// Replaces row `i` along a symbol's axis by what was row `rows[i]`; all these rows exist.
    ///
    /// # Errors
    /// No memory, or the loss of the device.
    pub fn select(&mut self, gpu: &Gpu, program: &Program, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        for (state, slot) in self.states.iter().zip(&program.states) {
            let Some(axis) = axis(slot, symbol) else { continue };
            let pieces = Pieces::collect(|visit| selected(&state.shape, axis, rows, state.dtype.size(), visit));
            if pieces.list.is_empty() {
                continue;
            }
            if !pieces.are_words {
                for buffer in &state.instances {
                    let bytes = self.read(gpu, &mut Staging::default(), buffer)?;
                    write(gpu, buffer, &pieces.apply(&bytes, bytes.clone()))?;
                }
                continue;
            }
            let spare = provide_spare(&mut self.spare, gpu, state.bytes() as u64)?;
            submit(gpu, "the states' rows", |encoder| {
                // A buffer is not copied to itself: rows go by way of another one.
                for buffer in &state.instances {
                    pieces.copy(encoder, buffer, spare);
                    pieces.copy_back(encoder, spare, buffer);
                }
            })?;
        }
        Ok(())
    }

    /// An instance of a state, if there is one.
    ///
    /// # Errors
    /// No memory, or the loss of the device.
    pub fn tensor(
        &self,
        gpu: &Gpu,
        staging: &mut Staging,
        number: usize,
        instance: usize,
    ) -> Result<Option<Tensor>, RunError> {
        let state = &self.states[number];
        let Some(buffer) = state.instances.get(instance) else { return Ok(None) };
        let mut tensor = Tensor::zeros(state.dtype, &state.shape)?;
        let bytes = self.read(gpu, staging, buffer)?;
        tensor.bytes_mut().copy_from_slice(&bytes[..state.bytes()]);
        Ok(Some(tensor))
    }

    /// Replaces an instance of a state.
    ///
    /// # Errors
    /// The loss of the device.
    pub fn set(&self, gpu: &Gpu, number: usize, instance: usize, bytes: &[u8]) -> Result<(), GpuError> {
        let mut whole = bytes.to_vec();
        whole.resize(padded(bytes.len()), 0);
        write(gpu, self.buffer(number, instance), &whole)
    }

    /// The bytes of a buffer.
    fn read(&self, gpu: &Gpu, staging: &mut Staging, buffer: &Buffer) -> Result<Vec<u8>, GpuError> {
        let encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut found = Vec::new();
        staging.read(gpu, encoder, &[(buffer, 0, buffer.size())], |_, bytes| found.extend_from_slice(bytes))?;
        Ok(found)
    }
}

/// Parts of a tensor that are copied.
struct Pieces {
    list: Vec<Piece>,
    /// Whether all of them are whole words, which devices copy.
    are_words: bool,
}

impl Pieces {
    fn collect(visit: impl FnOnce(&mut dyn FnMut(Piece))) -> Pieces {
        let mut list = Vec::new();
        visit(&mut |piece: Piece| list.push(piece));
        list.retain(|piece| piece.bytes > 0);
        let is_whole = |bytes: usize| (bytes as u64).is_multiple_of(WORD);
        let are_words = list.iter().all(|p| is_whole(p.from) && is_whole(p.to) && is_whole(p.bytes));
        Pieces { list, are_words }
    }

    fn copy(&self, encoder: &mut CommandEncoder, from: &Buffer, to: &Buffer) {
        for piece in &self.list {
            encoder.copy_buffer_to_buffer(from, piece.from as u64, to, piece.to as u64, piece.bytes as u64);
        }
    }

    /// Copies what [`Pieces::copy`] has copied to the same places of another buffer.
    fn copy_back(&self, encoder: &mut CommandEncoder, from: &Buffer, to: &Buffer) {
        for piece in &self.list {
            encoder.copy_buffer_to_buffer(from, piece.to as u64, to, piece.to as u64, piece.bytes as u64);
        }
    }

    fn apply(&self, from: &[u8], mut to: Vec<u8>) -> Vec<u8> {
        for piece in &self.list {
            to[piece.to..][..piece.bytes].copy_from_slice(&from[piece.from..][..piece.bytes]);
        }
        to
    }
}

fn padded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(WORD as usize)
}

fn provide_spare<'a>(spare: &'a mut Option<Buffer>, gpu: &Gpu, bytes: u64) -> Result<&'a Buffer, GpuError> {
    let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    match spare.take_if(|buffer| buffer.size() >= bytes) {
        Some(buffer) => Ok(spare.insert(buffer)),
        None => Ok(spare.insert(gpu.buffer("rows on their way", bytes, usage)?)),
    }
}

fn write(gpu: &Gpu, buffer: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
    gpu.scoped("states", || gpu.write(buffer, 0, bytes))
}

/// Records and submits copies.
fn submit(gpu: &Gpu, what: &str, record: impl FnOnce(&mut CommandEncoder)) -> Result<(), GpuError> {
    gpu.scoped(what, || {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        gpu.submit(Some(encoder));
    })
}
