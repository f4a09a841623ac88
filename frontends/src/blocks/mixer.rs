//! What mixes the tokens of a sequence in a layer.

use castiron_ir::Value;

use super::{Attention, Hyena, Mamba, ModelBuilder};

/// A way to mix tokens, each in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Every token sees all others, or those before it.
    Attention(Attention),
    /// A selective state space.
    Mamba(Mamba),
    /// Long filters with gates.
    Hyena(Hyena),
    /// Nothing, not even a residual.
    None,
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

impl From<Hyena> for Mixer {
    fn from(hyena: Hyena) -> Mixer {
        Mixer::Hyena(hyena)
    }
}

impl ModelBuilder<'_> {
    /// What a mixer makes of `x: [b, s, n]`; nothing if there is none.
    pub(super) fn mixer(&self, (name, mixer): &(&'static str, Mixer), x: &Value) -> Option<Value> {
        Some(match mixer {
            Mixer::Attention(attention) => self.attention(name, x, attention),
            Mixer::Mamba(mamba) => self.mamba(name, x, mamba),
            Mixer::Hyena(hyena) => self.hyena(name, x, hyena),
            Mixer::None => return None,
        })
    }
}
