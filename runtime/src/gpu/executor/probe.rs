//! A shader that tells how large subgroups really are.

use wgpu::BufferUsages;

use super::GpuError;
use super::device::Gpu;
use super::pipelines::{Key, Pipelines};
use super::staging::Staging;
use crate::program::gpu::{Features, Shader};

const SOURCE: &str = "
@group(0) @binding(1) var<storage, read_write> size: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(subgroup_size) found: u32, @builtin(local_invocation_index) i: u32) {
    if i == 0u { size[0] = found; }
}";

/// Whether subgroups have a multiple of 8 invocations. What adapters say about their sizes holds for
/// some of their pipelines only, so a pipeline is asked.
///
/// # Errors
/// A device that does not execute the shader.
pub(super) fn has_useful_subgroups(gpu: &Gpu) -> Result<bool, GpuError> {
    let features = Features { f16: false, subgroups: true };
    let shaders = [Shader { name: "probe of subgroups".to_owned(), features, source: SOURCE.to_owned() }];
    let key = Key { shader: 0, read_write: vec![true] };
    let pipelines = Pipelines::default();
    // A driver that refuses so small a shader has no subgroups worth the name.
    if let Err(error) = pipelines.make(gpu, &shaders, std::slice::from_ref(&key)) {
        return if matches!(error, GpuError::Shader { .. }) { Ok(false) } else { Err(error) };
    }
    let Some(pipeline) = pipelines.get(&key) else { return Ok(false) };
    let size = gpu.buffer("a subgroup's size", 4, BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
    let symbols = gpu.filled("the symbols of the probe", &[0; 16], BufferUsages::UNIFORM)?;
    let mut staging = Staging::default();
    let bytes = gpu.scoped("the probe of subgroups", || {
        let entries = [(0, &symbols), (1, &size)]
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        let group = gpu.device.create_bind_group(&descriptor);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        drop(pass);
        encoder
    })?;
    let mut found = [0; 4];
    staging.read(gpu, bytes, &[(&size, 0, 4)], |_, bytes| found.copy_from_slice(bytes))?;
    let found = u32::from_le_bytes(found);
    Ok(found >= 8 && found.is_multiple_of(8))
}
