//! A model on a GPU: what its sessions share.

use std::sync::{Arc, Mutex};

use super::device::Gpu;
use super::memory::Memory;
use super::pipelines::{Key, Pipelines};
use super::session::GpuSession;
use super::weights::Weights;
use super::{AdapterInfo, DeviceMemory, GpuError, GpuOptions, bind, choice};
use crate::plan::MemoryPlan;
use crate::program::gpu::{Features, GpuProgram};
use crate::session::RunError;
use crate::session::executor::Executor;
use crate::session::extents::Extents;
use crate::session::model::Common;

/// An artifact on a device.
pub(crate) struct GpuModel {
    pub(super) common: Arc<Common>,
    pub(super) gpu: Gpu,
    pub(super) program: GpuProgram,
    pub(super) weights: Weights,
    pub(super) pipelines: Pipelines,
    /// Sessions take turns.
    pub(super) memory: Mutex<Memory>,
}

impl GpuModel {
    /// Opens a device and uploads the weights.
    ///
    /// # Errors
    /// No such adapter, an artifact that was not compiled for GPUs, or weights that the device does not take.
    pub fn open(common: Arc<Common>, options: &GpuOptions, profile: bool) -> Result<GpuModel, RunError> {
        let program = common.artifact.gpu_program()?.ok_or(GpuError::NotCompiled)?;
        let gpu = Gpu::open(options, profile)?;
        let weights = Weights::upload(&gpu, &common.artifact, &program)?;
        Ok(GpuModel { common, gpu, program, weights, pipelines: Pipelines::default(), memory: Mutex::default() })
    }

    /// The adapter, and the features that shaders may use.
    pub fn adapter(&self) -> (&AdapterInfo, Features) {
        (&self.gpu.info, self.gpu.features)
    }

    /// Memory in use, where the driver's allocator counts it.
    pub fn device_memory(&self) -> Option<DeviceMemory> {
        self.gpu.memory()
    }

    /// Ends the device.
    pub fn destroy_device(&self) {
        self.gpu.destroy();
    }

    /// Where the buffers of an entry lie.
    ///
    /// # Errors
    /// An entry that cannot be bound to these values.
    pub fn plan(&self, number: usize, values: &[usize]) -> Result<MemoryPlan, RunError> {
        Ok(bind::bind(self, number, values)?.plan)
    }

    /// A session whose states have these extents.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn session(self: Arc<Self>, extents: &Extents) -> Result<Box<dyn Executor>, RunError> {
        Ok(Box::new(GpuSession::new(self, extents)?))
    }

    /// Makes the pipelines of everything that an entry may come to execute, so that later extents
    /// find theirs ready.
    ///
    /// # Errors
    /// A shader that the device does not take.
    pub(super) fn prepare(&self, number: usize) -> Result<(), GpuError> {
        let entry = std::iter::once(&self.program.entries[number]);
        let dispatches = choice::eligible(&self.gpu, &self.program, entry).flat_map(|choice| &choice.dispatches);
        let keys: Vec<Key> = dispatches.map(Key::of).collect();
        self.pipelines.make(&self.gpu, &self.program.shaders, &keys)
    }
}
