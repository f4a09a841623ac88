//! Which of the ways to execute a launch are open to a device.

use super::device::Gpu;
use crate::program::gpu::{Choice, GpuEntry, GpuProgram};

/// The choices of entries that the device can take for some extents.
pub(super) fn eligible<'a>(
    gpu: &Gpu,
    program: &'a GpuProgram,
    entries: impl Iterator<Item = &'a GpuEntry>,
) -> impl Iterator<Item = &'a Choice> {
    let launches = entries.flat_map(|entry| &entry.stages).flat_map(|stage| &stage.launches);
    launches.flat_map(|launch| &launch.choices).filter(|choice| is_eligible(gpu, program, choice))
}

/// Whether the device has what a choice and its shaders need.
pub(super) fn is_eligible(gpu: &Gpu, program: &GpuProgram, choice: &Choice) -> bool {
    let condition = &choice.condition;
    let shaders = choice.dispatches.iter().map(|dispatch| &program.shaders[dispatch.shader as usize]);
    condition.features.are_among(gpu.features)
        && condition.class.is_none_or(|class| class == gpu.class)
        && shaders.into_iter().all(|shader| shader.features.are_among(gpu.features))
}
