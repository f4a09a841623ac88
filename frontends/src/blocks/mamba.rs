//! Selective state spaces: Mamba (arXiv:2312.00752).

use castiron_ir::op::{SelectiveScan, UnaryOp};
use castiron_ir::{DType, Type, Value};

use super::{LinearKind, ModelBuilder, Norm, Size};

/// A mixer of tokens with a state of `state` numbers for each of `inner` channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of channels.
    pub inner: Size,
    /// Numbers of a channel's state.
    pub state: Size,
    /// Width that time steps are projected from.
    pub rank: Size,
    /// Tokens that the convolution sees.
    pub taps: Size,
    /// After the convolution.
    pub activation: UnaryOp,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Kind of the first and last layer.
    pub linear: LinearKind,
    /// Norms of the time step, B and C, if there are any.
    pub inner_norms: Option<InnerNorms>,
}

/// Root mean square norms of the time step, B and C, before they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct InnerNorms {
    /// Epsilon.
    pub eps: f64,
    /// Names of those with weights (Jamba); without names they have none (Falcon-Mamba).
    pub names: Option<[&'static str; 3]>,
}

impl ModelBuilder<'_> {
    /// Mamba's mixer: `h ← e^(δA)·h + δ·B·u`, `y = (C·h + D·u)·silu(z)`, where δ, B and C depend on the token.
    pub fn mamba(&self, name: &str, x: &Value, mamba: &Mamba) -> Value {
        let m = &self.scope(name);
        let (n, r) = (mamba.state.value(), mamba.rank.value());
        let both = m.linear("in_proj", &m.without_padding(x), [&mamba.width, &(&mamba.inner * 2)], mamba.linear);
        let (u, z) =
            (both.slice(2, 0, mamba.inner.value()), both.slice(2, mamba.inner.value(), 2 * mamba.inner.value()));
        let u = m.causal_convolution("conv1d", &u, [&mamba.inner, &mamba.taps], mamba.conv_bias);
        let u = m.without_padding(&u.unary(mamba.activation));
        let selected = &mamba.rank + &(&mamba.state * 2);
        let selected = m.linear("x_proj", &u, [&mamba.inner, &selected], LinearKind::PLAIN);
        let part = |j: usize, start: usize, width: &Size| {
            let part = selected.slice(2, start, start + width.value());
            match &mamba.inner_norms {
                Some(InnerNorms { eps, names: Some(names) }) => m.norm(names[j], &part, &Norm::rms(width, *eps)),
                Some(InnerNorms { eps, names: None }) => m.unweighted_norm(&part, &Norm::rms(width, *eps)),
                None => part,
            }
        };
        let (delta, b) = (part(0, 0, &mamba.rank), part(1, r, &mamba.state));
        let c = part(2, r + n, &mamba.state);
        let delta = m.linear("dt_proj", &delta, [&mamba.rank, &mamba.inner], LinearKind::BIASED);
        // Padding leaves the state as it is.
        let delta = m.without_padding(&delta.unary(UnaryOp::Softplus));
        let a = m.param("A_log", &[&mamba.inner, &mamba.state]).unary(UnaryOp::Exp).unary(UnaryOp::Neg);
        let y = m.selective_scan("state", [&u, &delta, &b, &c], &a) + u * m.param("D", &[&mamba.inner]);
        m.linear("out_proj", &(y * z.unary(UnaryOp::Silu)), [&mamba.inner, &mamba.width], mamba.linear)
    }

    pub(super) fn selective_scan(&self, name: &str, [u, delta, b, c]: [&Value; 4], a: &Value) -> Value {
        let initial = self.recurrent(name, Type::new(DType::F32, [u.dim(0), a.dim(0), a.dim(1)]));
        let results = self.expand_all("selective_scan", &SelectiveScan {}, &[&initial, u, delta, b, c, a]);
        self.remember(name, &results[0]);
        results[1].clone()
    }
}
