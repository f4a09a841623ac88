//! What mixes the tokens of a sequence in a layer.

use castiron_ir::Value;

use super::{Attention, Mamba, Mamba2, ModelBuilder, Shared, Size};

/// A way to mix tokens, each in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Every token sees all others, or those before it.
    Attention(Attention),
    /// A selective state space.
    Mamba(Mamba),
    /// Selective state spaces in so many heads.
    MambaHeads(Mamba, Size),
    /// A state space with heads.
    Mamba2(Mamba2),
    /// A mixer that also reads what layers shared by several places make of its input.
    Shared(Box<Shared>),
    /// Several side by side, whose results are added.
    Sum(Vec<Branch>),
    /// Nothing, not even a residual.
    None,
}

/// One of several mixers of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Its name and kind.
    pub mixer: (&'static str, Mixer),
    /// Factor of what it reads.
    pub input: f64,
    /// Factor of what it gives.
    pub output: f64,
}

impl From<Attention> for Mixer {
    fn from(attention: Attention) -> Mixer {
        Mixer::Attention(attention)
    }
}

impl From<Mamba> for Mixer {
    fn from(mamba: Mamba) -> Mixer {
        Mixer::Mamba(mamba)
    }
}

impl From<Mamba2> for Mixer {
    fn from(mamba: Mamba2) -> Mixer {
        Mixer::Mamba2(mamba)
    }
}

impl ModelBuilder<'_> {
    /// What a mixer makes of `x: [b, s, n]`; nothing if there is none.
    pub(super) fn mixer(&self, (name, mixer): &(&'static str, Mixer), x: &Value) -> Option<Value> {
        Some(match mixer {
            Mixer::Attention(attention) => self.attention(name, x, attention),
            Mixer::Mamba(mamba) => self.mamba(name, x, mamba),
            Mixer::MambaHeads(mamba, heads) => self.mamba_heads(name, x, mamba, heads),
            Mixer::Mamba2(mamba) => self.mamba2(name, x, mamba),
            Mixer::Shared(shared) => return self.scope(name).shared(x, shared),
            Mixer::Sum(branches) => {
                let m = self.scope(name);
                let times = |x: &Value, factor: f64| if factor == 1.0 { x.clone() } else { x * factor };
                let branch = |b: &Branch| m.mixer(&b.mixer, &times(x, b.input)).map(|y| times(&y, b.output));
                return branches.iter().filter_map(branch).reduce(|a, b| a + b);
            }
            Mixer::None => return None,
        })
    }
}
