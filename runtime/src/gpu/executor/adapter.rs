//! Adapters: the GPUs of a machine and what stands in for them, listed and chosen.

use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

use super::{AdapterInfo, GpuError};

/// Backends that execute compute shaders on every system that castiron supports.
const BACKENDS: Backends = Backends::VULKAN.union(Backends::METAL).union(Backends::DX12);

impl AdapterInfo {
    fn new(number: usize, adapter: &wgpu::Adapter) -> AdapterInfo {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let has_subgroups = features.contains(wgpu::Features::SUBGROUP);
        AdapterInfo {
            number,
            name: info.name,
            backend: info.backend.to_str().to_owned(),
            kind: kind(info.device_type).0,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup_sizes: has_subgroups.then_some([info.subgroup_min_size, info.subgroup_max_size]),
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
        }
    }
}

/// Name of a kind of adapter, and how late it is chosen.
fn kind(device: DeviceType) -> (&'static str, u8) {
    match device {
        DeviceType::DiscreteGpu => ("discrete", 0),
        DeviceType::IntegratedGpu => ("integrated", 1),
        DeviceType::VirtualGpu => ("virtual", 2),
        DeviceType::Other => ("other", 3),
        DeviceType::Cpu => ("cpu", 4),
    }
}

/// The adapters of this machine, by number.
pub fn adapters() -> Vec<AdapterInfo> {
    let found = enumerate();
    found.iter().enumerate().map(|(number, adapter)| AdapterInfo::new(number, adapter)).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    // Validation layers are for those who debug wgpu; what is asked of it is checked without them.
    let descriptor = InstanceDescriptor {
        backends: BACKENDS,
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    };
    pollster::block_on(Instance::new(descriptor).enumerate_adapters(BACKENDS))
}

/// The adapter of a number or name, or the one that suits best.
///
/// # Errors
/// No adapter, or none of this name.
pub(super) fn choose(wanted: Option<&str>) -> Result<(wgpu::Adapter, AdapterInfo), GpuError> {
    let mut found = enumerate();
    let infos: Vec<AdapterInfo> = found.iter().enumerate().map(|(i, adapter)| AdapterInfo::new(i, adapter)).collect();
    let number = match wanted {
        _ if found.is_empty() => return Err(GpuError::NoAdapter),
        Some(wanted) => find(wanted, &infos)?,
        None => {
            let lateness = |&number: &usize| kind(found[number].get_info().device_type).1;
            (0..found.len()).min_by_key(lateness).unwrap_or(0)
        }
    };
    Ok((found.swap_remove(number), infos[number].clone()))
}

/// Number of the adapter with this number, or else of the first with this in its name.
fn find(wanted: &str, infos: &[AdapterInfo]) -> Result<usize, GpuError> {
    let lower = wanted.to_lowercase();
    let by_number = wanted.parse().ok().filter(|&number: &usize| number < infos.len());
    let by_name = || infos.iter().position(|info| info.name.to_lowercase().contains(&lower));
    by_number.or_else(by_name).ok_or_else(|| {
        let known: Vec<String> = infos.iter().map(|info| format!("{} `{}`", info.number, info.name)).collect();
        GpuError::UnknownAdapter { name: wanted.to_owned(), known: known.join(", ") }
    })
}
