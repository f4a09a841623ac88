//! What mixes the tokens of a sequence in a layer.

use castiron_ir::Value;

use super::{
    Attention, GatedDelta, Griffin, Lightning, Mamba, Mlstm, ModelBuilder, Retention, Rwkv4, Rwkv6, Rwkv7,
    ShortConvolution,
};

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
    /// Linear attention with gates.
    Retention(Retention),
    /// RWKV-4's means of values.
    Rwkv4(Rwkv4),
    /// RWKV-5's and -6's linear attention.
    Rwkv6(Rwkv6),
    /// RWKV-7's delta rule.
    Rwkv7(Rwkv7),
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

impl From<Retention> for Mixer {
    fn from(retention: Retention) -> Mixer {
        Mixer::Retention(retention)
    }
}

impl From<Rwkv4> for Mixer {
    fn from(rwkv4: Rwkv4) -> Mixer {
        Mixer::Rwkv4(rwkv4)
    }
}

impl From<Rwkv6> for Mixer {
    fn from(rwkv6: Rwkv6) -> Mixer {
        Mixer::Rwkv6(rwkv6)
    }
}

impl From<Rwkv7> for Mixer {
    fn from(rwkv7: Rwkv7) -> Mixer {
        Mixer::Rwkv7(rwkv7)
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
            Mixer::Retention(retention) => self.retention(name, x, retention),
            Mixer::Rwkv4(rwkv4) => self.rwkv4(name, x, rwkv4),
            Mixer::Rwkv6(rwkv6) => self.rwkv6(name, x, rwkv6),
            Mixer::Rwkv7(rwkv7) => self.rwkv7(name, x, rwkv7),
            Mixer::None => return None,
        })
    }
}
