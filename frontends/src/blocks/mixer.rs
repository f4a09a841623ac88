//! What mixes the tokens of a sequence in a layer.

use castiron_ir::Value;

use super::{Attention, GatedDelta, Griffin, Lightning, Mamba, Mlstm, ModelBuilder, ShortConvolution};

/// A way to mix tokens, each in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Every token sees all others, or those before it.
    Attention(Attention),
    /// A gated delta network.
    GatedDelta(GatedDelta),
    /// A selective state space.
    Mamba(Mamba),
    /// A gated linear recurrence.
    Griffin(Griffin),
    /// Linear attention that forgets at constant rates.
    Lightning(Lightning),
    /// An LSTM with a matrix for a memory.
    Mlstm(Mlstm),
    /// A gated convolution over a few tokens.
    ShortConvolution(ShortConvolution),
    /// Nothing, not even a residual.
    None,
}

impl From<Attention> for Mixer {
    fn from(attention: Attention) -> Mixer {
        Mixer::Attention(attention)
    }
}

impl From<GatedDelta> for Mixer {
    fn from(delta: GatedDelta) -> Mixer {
        Mixer::GatedDelta(delta)
    }
}

impl From<Mamba> for Mixer {
    fn from(mamba: Mamba) -> Mixer {
        Mixer::Mamba(mamba)
    }
}

impl Mixer {
    /// Whether it keeps a state of constant size, into which all goes that is read.
    pub fn remembers(&self) -> bool {
        !matches!(self, Mixer::Attention(_) | Mixer::None)
    }
}

impl ModelBuilder<'_> {
    /// What a mixer makes of `x: [b, s, n]`; nothing if there is none.
    pub(super) fn mixer(&self, (name, mixer): &(&'static str, Mixer), x: &Value) -> Option<Value> {
        Some(match mixer {
            Mixer::Attention(attention) => self.attention(name, x, attention),
            Mixer::GatedDelta(delta) => self.gated_delta(name, x, delta),
            Mixer::Mamba(mamba) => self.mamba(name, x, mamba),
            Mixer::Griffin(griffin) => self.griffin(name, x, griffin),
            Mixer::Lightning(lightning) => self.lightning(name, x, lightning),
            Mixer::Mlstm(mlstm) => self.mlstm(name, x, mlstm),
            Mixer::ShortConvolution(convolution) => self.short_convolution(name, x, convolution),
            Mixer::None => return None,
        })
    }
}
