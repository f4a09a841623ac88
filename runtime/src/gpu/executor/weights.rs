//! Weights on the device: a buffer for each instance that some dispatch binds.

use wgpu::{Buffer, BufferUsages};

use super::GpuError;
use super::choice;
use super::device::Gpu;
use crate::artifact::Artifact;
use crate::program::gpu::{GpuProgram, Resource};
use crate::program::view::Place;

/// Bytes that may wait on the host's side for their way to the device.
const IN_FLIGHT: u64 = 64 << 20;

/// The weights of a model.
pub(super) struct Weights {
    /// For each weight and instance, its buffer, if it is bound.
    buffers: Vec<Vec<Buffer>>,
}

impl Weights {
    /// Uploads the weights that eligible choices bind, straight from the artifact.
    ///
    /// # Errors
    /// A weight that is larger than the adapter's limits, or no memory.
    pub fn upload(gpu: &Gpu, artifact: &Artifact, launches: &GpuProgram) -> Result<Weights, GpuError> {
        let weights = &artifact.program().weights;
        let mut buffers: Vec<Vec<Buffer>> = weights.iter().map(|_| Vec::new()).collect();
        let mut waiting = 0;
        for (number, is_bound) in bound(gpu, weights.len(), launches).into_iter().enumerate() {
            if !is_bound {
                continue;
            }
            let weight = &weights[number];
            for instance in 0..weight.instances as usize {
                let bytes = artifact.weight(number, instance);
                let name = format!("weight `{}`", weight.label);
                buffers[number].push(gpu.filled(&name, bytes, BufferUsages::STORAGE)?);
                waiting += bytes.len() as u64;
                if waiting > IN_FLIGHT {
                    gpu.submit(None);
                    gpu.wait()?;
                    waiting = 0;
                }
            }
        }
        Ok(Weights { buffers })
    }

    /// An instance of a weight that an eligible choice binds.
    pub fn get(&self, number: usize, instance: usize) -> Option<&Buffer> {
        self.buffers.get(number)?.get(instance)
    }
}

/// For each weight, whether a choice that may be taken binds it.
fn bound(gpu: &Gpu, count: usize, launches: &GpuProgram) -> Vec<bool> {
    let mut is_bound = vec![false; count];
    for choice in choice::eligible(gpu, launches, launches.entries.iter()) {
        for binding in choice.dispatches.iter().flat_map(|dispatch| &dispatch.bindings) {
            if let Resource::Place(Place::Weight(number)) | Resource::Part { weight: number, .. } = binding.resource {
                is_bound[number as usize] = true;
            }
        }
    }
    is_bound
}
