//! Which GPU executes a model, and how much of it is used.

use super::GpuError;
use crate::program::gpu::{AdapterClass, Features};

/// Environment variable that withholds features, such as `no-f16,no-subgroups,class=gpu`.
const VARIABLE: &str = "CASTIRON_GPU";

/// How a model is executed on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Number of an adapter, or a part of its name in any case; by default the first discrete GPU,
    /// else the first integrated one, else a virtual one, else a CPU.
    pub adapter: Option<String>,
    /// What is withheld, besides what the environment's `CASTIRON_GPU` says.
    pub mask: Mask,
}

/// What an adapter has and is not used, for tests and comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Shaders do not use 16-bit floats.
    pub no_f16: bool,
    /// Shaders do not use subgroup operations.
    pub no_subgroups: bool,
    /// Nothing is measured.
    pub no_timestamps: bool,
    /// What is measured has a pass of its own.
    pub no_timestamps_inside_passes: bool,
    /// What the adapter is taken for.
    pub class: Option<AdapterClass>,
    /// What there is no more of.
    pub limits: Limits,
}

/// Limits that are lower than those of the adapter; nothing where the adapter's hold. The environment
/// does not set them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a buffer.
    pub max_buffer_size: Option<u64>,
    /// Most bytes of a storage buffer that a shader sees.
    pub max_storage_buffer_binding_size: Option<u64>,
    /// Most storage buffers that a shader sees.
    pub max_storage_buffers_per_shader_stage: Option<u32>,
}

impl Limits {
    /// The lower ones.
    #[must_use]
    pub fn and(self, other: Limits) -> Limits {
        let sizes = [self, other].map(|limits| limits.max_buffer_size);
        let bindings = [self, other].map(|limits| limits.max_storage_buffer_binding_size);
        let counts = [self, other].map(|limits| limits.max_storage_buffers_per_shader_stage);
        Limits {
            max_buffer_size: sizes.into_iter().flatten().min(),
            max_storage_buffer_binding_size: bindings.into_iter().flatten().min(),
            max_storage_buffers_per_shader_stage: counts.into_iter().flatten().min(),
        }
    }
}

impl Mask {
    /// What `CASTIRON_GPU` says: `no-f16`, `no-subgroups`, `no-timestamps`, `no-timestamps-inside-passes`,
    /// `class=cpu`, `class=gpu`, separated by commas.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_environment() -> Result<Mask, GpuError> {
        match std::env::var_os(VARIABLE) {
            Some(value) => Mask::parse(&value.to_string_lossy()),
            None => Ok(Mask::default()),
        }
    }

    /// Reads settings separated by commas.
    ///
    /// # Errors
    /// A setting that is unknown.
    pub fn parse(text: &str) -> Result<Mask, GpuError> {
        let mut mask = Mask::default();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            match setting {
                "no-f16" => mask.no_f16 = true,
                "no-subgroups" => mask.no_subgroups = true,
                "no-timestamps" => mask.no_timestamps = true,
                "no-timestamps-inside-passes" => mask.no_timestamps_inside_passes = true,
                "class=cpu" => mask.class = Some(AdapterClass::Cpu),
                "class=gpu" => mask.class = Some(AdapterClass::Gpu),
                _ => return Err(GpuError::Setting { setting: setting.to_owned() }),
            }
        }
        Ok(mask)
    }

    /// What this mask or another one withholds; where both say what the adapter is, this one counts.
    #[must_use]
    pub fn and(self, other: Mask) -> Mask {
        Mask {
            no_f16: self.no_f16 || other.no_f16,
            no_subgroups: self.no_subgroups || other.no_subgroups,
            no_timestamps: self.no_timestamps || other.no_timestamps,
            no_timestamps_inside_passes: self.no_timestamps_inside_passes || other.no_timestamps_inside_passes,
            class: self.class.or(other.class),
            limits: self.limits.and(other.limits),
        }
    }

    /// What remains of features.
    #[must_use]
    pub fn apply(self, features: Features) -> Features {
        Features { f16: features.f16 && !self.no_f16, subgroups: features.subgroups && !self.no_subgroups }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_refused() {
        assert_eq!(Mask::parse(""), Ok(Mask::default()));
        let all = Mask {
            no_f16: true,
            no_subgroups: true,
            no_timestamps: true,
            no_timestamps_inside_passes: true,
            class: Some(AdapterClass::Gpu),
            limits: Limits::default(),
        };
        let text = "no-f16, no-subgroups,class=gpu,no-timestamps,no-timestamps-inside-passes";
        assert_eq!(Mask::parse(text), Ok(all));
        for bad in ["f16", "no-f16;no-subgroups", "class=", "class=GPU"] {
            assert!(matches!(Mask::parse(bad), Err(GpuError::Setting { .. })), "{bad}");
        }
        let class = Mask { class: Some(AdapterClass::Cpu), ..Mask::default() };
        assert_eq!(class.and(all), Mask { class: Some(AdapterClass::Cpu), ..all });
        let limits = |max_buffer_size| Limits { max_buffer_size, ..Limits::default() };
        assert_eq!(limits(Some(5)).and(limits(None)), limits(Some(5)));
        assert_eq!(limits(Some(5)).and(limits(Some(4))), limits(Some(4)));
        assert_eq!(all.apply(Features { f16: true, subgroups: true }), Features::NONE);
    }
}
