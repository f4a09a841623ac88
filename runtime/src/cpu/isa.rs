//! Instruction sets that kernels are made for.

/// An instruction set with kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// Anything that Rust runs on.
    Portable,
}

impl Isa {
    /// The best that this machine has, or the portable one if the environment says
    /// `CASTIRON_CPU=portable`.
    pub fn detect() -> Isa {
        let is_portable_asked = std::env::var_os("CASTIRON_CPU").is_some_and(|cpu| cpu == "portable");
        if !is_portable_asked && Isa::Avx2.is_available() { Isa::Avx2 } else { Isa::Portable }
    }

    /// Every instruction set that this machine can execute, the best one last.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Portable, Isa::Avx2].into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this machine can execute it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}
