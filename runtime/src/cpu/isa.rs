//! Instruction sets that kernels are made for.

/// An instruction set with kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, DQ, VL and VNNI), and what AVX2 stands for.
    Avx512,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// Anything that Rust runs on.
    Portable,
}

impl Isa {
    /// Every instruction set, the best one last.
    const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The best that this machine has, but none better than the environment asks for:
    /// `CASTIRON_CPU=portable` or `avx2`.
    pub fn detect() -> Isa {
        let asked = std::env::var("CASTIRON_CPU").unwrap_or_default();
        let most = Isa::ALL.into_iter().find(|isa| isa.name() == asked).unwrap_or(Isa::Avx512);
        let allowed = Isa::ALL.into_iter().take_while(|&isa| isa != most).chain([most]);
        allowed.filter(|isa| isa.is_available()).last().unwrap_or(Isa::Portable)
    }

    /// Every instruction set that this machine can execute, the best one last.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Its name in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// Whether code for AVX2, FMA and F16C may be executed: this instruction set includes them, and the machine
    /// has them.
    pub fn has_avx2(self) -> bool {
        self != Isa::Portable && Isa::Avx2.is_available()
    }

    /// Whether this machine can execute it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
            Isa::Portable => true,
        }
    }
}
