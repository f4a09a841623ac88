//! What is known about adapters and their memory.

use serde::Serialize;

/// An adapter, for people and for choosing one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterInfo {
    /// Its number.
    pub number: usize,
    /// Name of the GPU.
    pub name: String,
    /// Interface through which it is used: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// Name and version of its driver.
    pub driver: String,
    /// Whether shaders can use 16-bit floats.
    pub f16: bool,
    /// Smallest and largest number of invocations of a subgroup, if shaders can use subgroups.
    pub subgroup_sizes: Option<[u32; 2]>,
    /// Most bytes of a buffer.
    pub max_buffer_size: u64,
    /// Most bytes of a storage buffer that a shader sees.
    pub max_storage_buffer_binding_size: u64,
    /// Most storage buffers that a shader sees.
    pub max_storage_buffers_per_shader_stage: u32,
    /// Most bytes that a workgroup shares.
    pub max_compute_workgroup_storage_size: u32,
    /// Most invocations of a workgroup.
    pub max_compute_invocations_per_workgroup: u32,
    /// Storage buffers are bound at multiples of this many bytes.
    pub min_storage_buffer_offset_alignment: u32,
}

/// Memory that a model takes on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceMemory {
    /// Number of pieces.
    pub allocations: usize,
    /// Their bytes.
    pub bytes: u64,
}
