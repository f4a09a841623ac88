//! Mamba in heads that select for themselves (Zamba, arXiv:2405.16712).

use castiron_ir::Value;
use castiron_ir::op::{Slice, UnaryOp};

use super::{Mamba, ModelBuilder, Size};

impl ModelBuilder<'_> {
    /// Mamba's mixer over `heads` equal parts of the channels, each of which projects its own time steps, B and C.
    /// Their weights are stored together, `x_proj_weight: [heads, rank + 2·state, d]` and so on. Channels and gates
    /// take turns in what the first layer gives.
    pub(super) fn mamba_heads(&self, name: &str, x: &Value, mamba: &Mamba, heads: &Size) -> Value {
        let m = &self.scope(name);
        let (inner, n, r) = (mamba.inner.value(), mamba.state.value(), mamba.rank.value());
        let d = &Size::new(inner / heads.value(), "channels of a head");
        let both = m.linear("in_proj", &m.without_padding(x), [&mamba.width, &(&mamba.inner * 2)], mamba.linear);
        let every_other = |start: usize| {
            both.apply(Slice { axis: 2, start: start.into(), end: (2 * inner).into(), step: Some(2) }, &[])
        };
        let [u, gate] = [every_other(0), every_other(1)];
        let u = m.causal_convolution("conv1d", &u, [&mamba.inner, &mamba.taps], mamba.conv_bias);
        let u = m.without_padding(&u.unary(mamba.activation));
        let selected = &mamba.rank + &(&mamba.state * 2);
        let of_inputs = m.param("x_proj_weight", &[heads, &selected, d]);
        let of_steps = m.param("dt_proj_weight", &[heads, d, &mamba.rank]);
        let step_bias = m.param("dt_proj_bias", &[heads, d]);
        let log = m.param("A_log", &[heads, d, &mamba.state]);
        let skip = m.param("D", &[heads, d]);
        let head = |j: usize| {
            let of_head = |all: &Value| all.slice(0, j, j + 1).reshape(all.ty().shape[1..].to_vec());
            let u = u.slice(2, j * d.value(), (j + 1) * d.value());
            let selected = u.linear(&of_head(&of_inputs));
            let part = |start: usize, end: usize| selected.slice(2, start, end);
            let (step, b, c) = (part(0, r), part(r, r + n), part(r + n, r + 2 * n));
            let step = (step.linear(&of_head(&of_steps)) + of_head(&step_bias)).unary(UnaryOp::Softplus);
            // Padding leaves the state as it is.
            let step = m.without_padding(&step);
            let a = of_head(&log).unary(UnaryOp::Exp).unary(UnaryOp::Neg);
            m.selective_scan(&format!("state.{j}"), [&u, &step, &b, &c], &a) + u * of_head(&skip)
        };
        let y: Vec<Value> = (0..heads.value()).map(head).collect();
        let y = m.builder.concat(2, &y.iter().collect::<Vec<_>>());
        let y = y * gate.unary(UnaryOp::Silu);
        m.linear("out_proj", &y, [&mamba.inner, &mamba.width], mamba.linear)
    }
}
