//! Token shift (RWKV): layers read a mixture of each token and the one before it.

use castiron_ir::Value;
use castiron_ir::op::{BinaryOp, UnaryOp};

use super::{LinearKind, ModelBuilder, Norm, Size};

/// How much of the token before is mixed in: `x + (shift(x) - x)⊙μ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// The tensor.
    pub name: &'static str,
    /// What it holds.
    pub holds: MixTensor,
}

/// What the tensor of a [`Mix`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixTensor {
    /// `1 - μ` as `[1, 1, n]`: what is left of the token itself.
    Rest,
    /// `μ` as `[1, 1, n]`.
    Row,
    /// `μ` as `[n]`.
    Vector,
}

/// A perceptron of two layers that mixes tokens before it: `v(relu(k(x_k))²)`, maybe times `σ(r(x_r))`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelMix {
    /// Width of the input and the result.
    pub width: Size,
    /// Width between.
    pub inner: Size,
    /// Before the first layer.
    pub mix: Mix,
    /// Names of the two layers.
    pub layers: [&'static str; 2],
    /// Name of the layer of the gate, and what is mixed before it.
    pub receptance: Option<(&'static str, Mix)>,
    /// Whether padding of whole sequences is read like tokens.
    pub reads_padding: bool,
}

/// A dense layer of low rank: `f(x·A)·B + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Width between.
    pub rank: Size,
    /// Between the two layers.
    pub activation: Option<UnaryOp>,
    /// Where A, B and b are.
    pub tensors: LowRankTensors,
}

/// Names of the tensors of a [`LowRank`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowRankTensors {
    /// `A: [n, rank]`, `B: [rank, m]`, and perhaps `b: [1, 1, m]`.
    Plain([&'static str; 2], Option<&'static str>),
    /// The layers `lora.0` and `lora.2` in a scope, and whether there is a bias.
    Layers(&'static str, bool),
}

impl ModelBuilder<'_> {
    /// What is mixed in of the difference to the token before, `μ`.
    pub(super) fn mix(&self, mix: Mix, width: &Size) -> Value {
        let one = Size::new(1, "1");
        match mix.holds {
            MixTensor::Rest => {
                let rest = self.param(mix.name, &[&one, &one, width]);
                rest.constant(1.0) - rest
            }
            MixTensor::Row => self.param(mix.name, &[&one, &one, width]),
            MixTensor::Vector => self.param(mix.name, &[width]),
        }
    }

    /// `x` and, as the difference to it, the token before; the layer remembers the last one as `name`.
    pub(super) fn with_difference(&self, name: &str, x: &Value) -> (Value, Value) {
        let x = self.without_padding(x);
        let difference = self.shifted(name, &x) - &x;
        (x, difference)
    }

    /// A channel mix.
    pub fn channel_mix(&self, name: &str, x: &Value, mix: &ChannelMix) -> Value {
        let (m, width) = (self.scope(name), &mix.width);
        let m = &if mix.reads_padding { m.without_mask() } else { m };
        let (x, difference) = m.with_difference("feed_forward.shift", x);
        let mixed = |mix| &x + &difference * m.mix(mix, width);
        let layer = |name, x: &Value, widths| m.linear(name, x, widths, LinearKind::PLAIN);
        let inner = layer(mix.layers[0], &mixed(mix.mix), [width, &mix.inner]).unary(UnaryOp::Relu2);
        let value = layer(mix.layers[1], &inner, [&mix.inner, width]);
        match mix.receptance {
            Some((name, of_gate)) => value * layer(name, &mixed(of_gate), [width, width]).sigmoid(),
            None => value,
        }
    }

    /// A dense layer of low rank between two widths.
    pub(super) fn low_rank(&self, x: &Value, [input, output]: [&Size; 2], layer: &LowRank) -> Value {
        let (rank, one) = (&layer.rank, Size::new(1, "1"));
        let active = |x: Value| layer.activation.map_or_else(|| x.clone(), |f| x.unary(f));
        match layer.tensors {
            LowRankTensors::Plain([down, up], bias) => {
                let times = |x: &Value, name, shape: [&Size; 2]| x.linear(&self.param(name, &shape).transpose(&[1, 0]));
                let result = times(&active(times(x, down, [input, rank])), up, [rank, output]);
                match bias {
                    Some(bias) => result + self.param(bias, &[&one, &one, output]),
                    None => result,
                }
            }
            LowRankTensors::Layers(name, bias) => {
                let m = self.scope(name);
                let low = active(m.linear("lora.0", x, [input, rank], LinearKind::PLAIN));
                m.linear("lora.2", &low, [rank, output], LinearKind::with_bias(bias))
            }
        }
    }

    /// Heads `[b, s, g, r, e]` normalised by mean and deviation each, as `[b, s, g·r·e]`, with weight and bias.
    pub(super) fn group_norm(&self, (name, eps): (&str, f64), heads: &Value, width: &Size) -> Value {
        let m = self.scope(name);
        let normal = m.unweighted_norm(heads, &Norm::layer(width, eps));
        let flat = normal.reshape([heads.dim(0), heads.dim(1), width.value().into()]);
        flat * m.param("weight", &[width]) + m.param("bias", &[width])
    }

    /// `[b, s, h·e]` as heads `[b, s, h, 1, e]`.
    pub(super) fn as_heads(&self, x: &Value, [heads, width]: [&Size; 2]) -> Value {
        x.reshape([x.dim(0), x.dim(1), heads.value().into(), 1.into(), width.value().into()])
    }
}

/// The larger of each element and a number.
pub(super) fn at_least(x: &Value, least: f64) -> Value {
    x.binary(BinaryOp::Max, &x.constant(least))
}
