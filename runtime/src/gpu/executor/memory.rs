//! The memory of a run, kept from one run to the next and shared by all sessions of a model.
//!
//! ```text
//!  inputs    read by shaders                 arena     buffers and temporary buffers of the entry
//!  outputs   written by shaders              status    four words for each launch that checks indices
//! ```

use wgpu::{Buffer, BufferUsages};

use super::GpuError;
use super::device::Gpu;
use super::staging::Staging;
use super::timer::Timer;

/// Bytes that an entry needs, for its symbols' values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub inputs: u64,
    pub outputs: u64,
    pub arena: u64,
    pub status: u64,
}

/// Memory that grows with what runs need.
#[derive(Default)]
pub(super) struct Memory {
    pub kept: Option<Kept>,
    size: Needs,
    /// How often the buffers have been replaced; what binds older ones has to be bound again.
    pub generation: u64,
    /// Whether a launch has reported an index, so that its words are not 0.
    pub has_reports: bool,
    /// Results on their way to the host.
    pub staging: Staging,
    /// Room for timestamps.
    pub timer: Timer,
}

/// The buffers.
pub(super) struct Kept {
    pub inputs: Buffer,
    pub outputs: Buffer,
    pub arena: Buffer,
    pub status: Buffer,
}

impl Needs {
    fn fits(&self, size: &Needs) -> bool {
        let Needs { inputs, outputs, arena, status } = *self;
        inputs <= size.inputs && outputs <= size.outputs && arena <= size.arena && status <= size.status
    }

    fn or(&self, other: &Needs) -> Needs {
        Needs {
            inputs: self.inputs.max(other.inputs),
            outputs: self.outputs.max(other.outputs),
            arena: self.arena.max(other.arena),
            status: self.status.max(other.status),
        }
    }
}

impl Memory {
    /// Whether there is enough.
    pub fn suffices(&self, needs: &Needs) -> bool {
        self.kept.is_some() && needs.fits(&self.size)
    }

    /// Replaces the buffers by larger ones if they do not suffice.
    ///
    /// # Errors
    /// More than the adapter's limits, or no memory.
    pub fn provide(&mut self, gpu: &Gpu, needs: &Needs) -> Result<(), GpuError> {
        if !self.suffices(needs) {
            let size = self.size.or(needs);
            // The old ones go first, so that both need not fit.
            (self.kept, self.size) = (None, Needs::default());
            self.generation += 1;
            self.has_reports = false;
            self.kept = Some(Kept::new(gpu, &size)?);
            self.size = size;
        }
        Ok(())
    }
}

impl Kept {
    fn new(gpu: &Gpu, size: &Needs) -> Result<Kept, GpuError> {
        let storage = BufferUsages::STORAGE;
        Ok(Kept {
            inputs: gpu.buffer("memory for inputs", size.inputs, storage | BufferUsages::COPY_DST)?,
            outputs: gpu.buffer("memory for outputs", size.outputs, storage | BufferUsages::COPY_SRC)?,
            arena: gpu.buffer("memory for intermediate results", size.arena, storage)?,
            status: gpu.buffer(
                "memory for reports",
                size.status,
                storage | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            )?,
        })
    }
}
