//! naga's judgement of every shader, with the capabilities that the shader asks for and no others.

use castiron_runtime::program::gpu::Shader;
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::WgslFault;

/// Parses and validates a shader.
///
/// # Errors
/// What naga finds wrong, which is an error of the code generator.
pub(super) fn check(shader: &Shader) -> Result<(), WgslFault> {
    let invalid = |reason: String| WgslFault::Invalid { name: shader.name.clone(), reason };
    let module = wgsl::parse_str(&shader.source).map_err(|e| invalid(e.emit_to_string(&shader.source)))?;
    // Packed f16 are unpacked by every WebGPU implementation.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if shader.features.f16 {
        capabilities |= Capabilities::SHADER_FLOAT16;
    }
    if shader.features.subgroups {
        capabilities |= Capabilities::SUBGROUP;
    }
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).map_err(|e| invalid(e.emit_to_string(&shader.source)))?;
    Ok(())
}
