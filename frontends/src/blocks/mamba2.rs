//! State spaces with a number for each head as decay: Mamba-2 (arXiv:2405.21060).

use castiron_ir::Value;
use castiron_ir::op::{BinaryOp, UnaryOp};

use super::recurrent::Heads;
use super::{LinearKind, ModelBuilder, Norm, Size};

/// A mixer of tokens with a matrix `state × head_dim` for each head.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads.
    pub heads: Size,
    /// Channels of a head.
    pub head_dim: Size,
    /// Groups of heads that share B and C; divides `heads`.
    pub groups: Size,
    /// Numbers that a head keeps for each of its channels.
    pub state: Size,
    /// Tokens that the convolution sees.
    pub taps: Size,
    /// After the convolution.
    pub activation: UnaryOp,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Kinds of the first and the last layer.
    pub linear: [LinearKind; 2],
    /// Least and largest time step; none where they bound nothing.
    pub limits: Option<[f64; 2]>,
    /// Norm of what is read from the states. Without one the gate alone is applied.
    pub norm: Option<GatedNorm>,
    /// Factors around the first layer, if they are not one.
    pub factors: Option<Factors>,
}

/// A root mean square norm over the channels of each group, and a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedNorm {
    /// Epsilon.
    pub eps: f64,
    /// Whether the norm stands before the gate.
    pub before_gate: bool,
}

/// Factors of the first layer's input, and of the parts of its result: gate, x, B, C, time steps (Falcon-H1).
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Of the input.
    pub input: f64,
    /// Of the parts.
    pub parts: [f64; 5],
}

impl Mamba2 {
    /// Number of channels.
    fn inner(&self) -> Size {
        &self.heads * &self.head_dim
    }

    /// Widths of what the first layer gives: gate, x, B, C, time steps.
    fn parts(&self) -> [Size; 5] {
        let shared = &self.groups * &self.state;
        [self.inner(), self.inner(), shared.clone(), shared, self.heads.clone()]
    }
}

impl ModelBuilder<'_> {
    /// Mamba-2's mixer: `S ← e^(δA)·S + B·(δx)ᵀ`, `y = Sᵀ·C + D·x` in each head, gated and normalised.
    pub fn mamba2(&self, name: &str, x: &Value, mamba: &Mamba2) -> Value {
        let m = &self.scope(name);
        let (b, s) = (x.dim(0), x.dim(1));
        let parts = mamba.parts();
        let (inner, shared, heads) = (parts[0].value(), parts[2].value(), mamba.heads.value());
        let conv_width = &(&parts[1] + &parts[2]) + &parts[3];
        let all = m.first_layer(x, mamba, &(&(&parts[0] + &conv_width) + &parts[4]));
        let convolved = inner + conv_width.value();
        let gate = all.slice(2, 0, inner);
        let mixed = all.slice(2, inner, convolved);
        let mixed = m.causal_convolution("conv1d", &mixed, [&conv_width, &mamba.taps], mamba.conv_bias);
        let mixed = mixed.unary(mamba.activation);

        let g = mamba.groups.value();
        let r = heads / g;
        let grouped = |t: &Value, r: usize, e: usize| t.reshape([b.clone(), s.clone(), g.into(), r.into(), e.into()]);
        let of_head = |name: &str| m.param(name, &[&mamba.heads]);
        let u = grouped(&mixed.slice(2, 0, inner), r, mamba.head_dim.value());
        let key = grouped(&mixed.slice(2, inner, inner + shared), 1, mamba.state.value());
        let query = grouped(&mixed.slice(2, inner + shared, inner + 2 * shared), 1, mamba.state.value());
        let step = (all.slice(2, convolved, convolved + heads) + of_head("dt_bias")).unary(UnaryOp::Softplus);
        let step = match mamba.limits {
            Some([least, most]) => bounded(&step, least, most),
            None => step,
        };
        let log_decay = &step * of_head("A_log").unary(UnaryOp::Exp).unary(UnaryOp::Neg);
        let y = m.linear_attention(
            "state",
            &Heads {
                query: &query,
                key: &key,
                value: &(&u * grouped(&step, r, 1)),
                log_decay: Some(&grouped(&log_decay, r, 1)),
                delta: None,
                before: false,
            },
        );
        let y = (y + u * of_head("D").reshape([g, r, 1])).reshape([b, s, inner.into()]);
        m.linear("out_proj", &m.gated(&y, &gate, mamba), [&parts[0], &mamba.width], mamba.linear[1])
    }

    fn first_layer(&self, x: &Value, mamba: &Mamba2, width: &Size) -> Value {
        let x = self.without_padding(x);
        let layer = |x: &Value| self.linear("in_proj", x, [&mamba.width, width], mamba.linear[0]);
        let Some(Factors { input, parts }) = &mamba.factors else { return layer(&x) };
        let all = layer(&(x * *input));
        let widths = mamba.parts();
        let factors: Vec<Value> = std::iter::zip(parts, &widths)
            .map(|(&factor, width)| all.constant(factor).broadcast([width.value()]))
            .collect();
        all * self.builder.concat(0, &factors.iter().collect::<Vec<_>>())
    }

    /// What the heads give, `[b, s, inner]`, through norm and gate.
    fn gated(&self, y: &Value, gate: &Value, mamba: &Mamba2) -> Value {
        let gate = gate.unary(UnaryOp::Silu);
        match mamba.norm {
            None => y * gate,
            Some(GatedNorm { eps, before_gate: true }) => self.norm_of_groups(y, mamba, eps) * gate,
            Some(GatedNorm { eps, before_gate: false }) => self.norm_of_groups(&(y * gate), mamba, eps),
        }
    }

    fn norm_of_groups(&self, y: &Value, mamba: &Mamba2, eps: f64) -> Value {
        let (inner, groups) = (mamba.inner(), mamba.groups.value());
        if groups == 1 {
            return self.norm("norm", y, &Norm::rms(&inner, eps));
        }
        let size = Size::new(inner.value() / groups, "channels of a group");
        let grouped = y.reshape([y.dim(0), y.dim(1), groups.into(), size.value().into()]);
        let normal = self.unweighted_norm(&grouped, &Norm::rms(&size, eps)).reshape(y.ty().shape);
        normal * self.scope("norm").param("weight", &[&inner])
    }
}

/// `x` within bounds, as far as they are finite.
fn bounded(x: &Value, least: f64, most: f64) -> Value {
    let x = x.binary(BinaryOp::Max, &x.constant(least));
    if most.is_finite() { x.binary(BinaryOp::Min, &x.constant(most)) } else { x }
}
