//! What mixes the tokens of a sequence in a layer.

use castiron_ir::Value;

use super::{
    Attention, GatedDelta, Griffin, Hyena, Lightning, Mamba, Mamba2, Mlstm, ModelBuilder, Retention, Rwkv4, Rwkv6,
    Rwkv7, Shared, ShortConvolution, Size,
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
    /// Selective state spaces in so many heads.
    MambaHeads(Mamba, Size),
    /// A state space with heads.
    Mamba2(Mamba2),
    /// A mixer that also reads what layers shared by several places make of its input.
    Shared(Box<Shared>),
    /// Several side by side, whose results are added.
    Sum(Vec<Branch>),
    /// Long filters with gates.
    Hyena(Hyena),
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

/// Lets a mixer's own struct stand where any mixer can.
macro_rules! from {
    ($($Kind:ident),+) => {
        $(impl From<$Kind> for Mixer {
            fn from(mixer: $Kind) -> Mixer {
                Mixer::$Kind(mixer)
            }
        })+
    };
}
from!(Attention, GatedDelta, Hyena, Mamba, Mamba2, Retention, Rwkv4, Rwkv6, Rwkv7);

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
            Mixer::MambaHeads(mamba, heads) => self.mamba_heads(name, x, mamba, heads),
            Mixer::Mamba2(mamba) => self.mamba2(name, x, mamba),
            Mixer::Shared(shared) => return self.scope(name).shared(x, shared),
            Mixer::Sum(branches) => {
                let m = self.scope(name);
                let times = |x: &Value, factor: f64| if factor == 1.0 { x.clone() } else { x * factor };
                let branch = |b: &Branch| m.mixer(&b.mixer, &times(x, b.input)).map(|y| times(&y, b.output));
                return branches.iter().filter_map(branch).reduce(|a, b| a + b);
            }
            Mixer::Hyena(hyena) => self.hyena(name, x, hyena),
            Mixer::None => return None,
        })
    }
}
