//! Which GPU executes a model, and which of its features are used.

use super::GpuError;
use crate::program::gpu::{AdapterClass, Features};

/// Environment variable that withholds features: `no-f16,no-subgroups,class=gpu`.
const VARIABLE: &str = "CASTIRON_GPU";

/// How a model is executed on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Number of an adapter, or a part of its name in any case; by default the first discrete GPU,
    /// else the first integrated one, else a virtual one, else a CPU.
    pub adapter: Option<String>,
    /// What is withheld from shaders, besides what the environment's `CASTIRON_GPU` says.
    pub mask: Mask,
}

/// Features of an adapter that are not used, for tests and comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Shaders do not use 16-bit floats.
    pub no_f16: bool,
    /// Shaders do not use subgroup operations.
    pub no_subgroups: bool,
    /// What the adapter is taken for.
    pub class: Option<AdapterClass>,
}

impl Mask {
    /// What `CASTIRON_GPU` says: `no-f16`, `no-subgroups`, `class=cpu`, `class=gpu`, separated by commas.
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
            class: self.class.or(other.class),
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
        let all = Mask { no_f16: true, no_subgroups: true, class: Some(AdapterClass::Gpu) };
        assert_eq!(Mask::parse("no-f16, no-subgroups,class=gpu"), Ok(all));
        for bad in ["f16", "no-f16;no-subgroups", "class=", "class=GPU"] {
            assert!(matches!(Mask::parse(bad), Err(GpuError::Setting { .. })), "{bad}");
        }
        let class = Mask { class: Some(AdapterClass::Cpu), ..Mask::default() };
        assert_eq!(class.and(all), Mask { class: Some(AdapterClass::Cpu), ..all });
        assert_eq!(all.apply(Features { f16: true, subgroups: true }), Features::NONE);
    }
}
