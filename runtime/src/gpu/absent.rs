//! What stands for GPUs in builds without them.

use std::sync::Arc;

use super::{AdapterInfo, DeviceMemory, GpuError, GpuOptions};
use crate::plan::MemoryPlan;
use crate::program::gpu::Features;
use crate::session::RunError;
use crate::session::executor::Executor;
use crate::session::extents::Extents;
use crate::session::model::Common;

/// No adapters.
pub fn adapters() -> Vec<AdapterInfo> {
    Vec::new()
}

/// A model that cannot be: there is no way to open one.
pub(crate) enum GpuModel {}

impl GpuModel {
    /// # Errors
    /// Always.
    pub fn open(_common: Arc<Common>, _options: &GpuOptions, _profile: bool) -> Result<GpuModel, RunError> {
        Err(GpuError::NotBuilt.into())
    }

    pub fn adapter(&self) -> (&AdapterInfo, Features) {
        match *self {}
    }

    pub fn device_memory(&self) -> Option<DeviceMemory> {
        match *self {}
    }

    pub fn destroy_device(&self) {
        match *self {}
    }

    pub fn plan(&self, _number: usize, _values: &[usize]) -> Result<MemoryPlan, RunError> {
        match *self {}
    }

    pub fn session(self: Arc<Self>, _extents: &Extents) -> Result<Box<dyn Executor>, RunError> {
        match *self {}
    }
}
