//! Lightning attention (arXiv:2401.04658, as in MiniMax-01, arXiv:2501.08313).

use castiron_ir::Value;
use castiron_ir::op::UnaryOp;

use super::recurrent::Heads;
use super::{LinearKind, ModelBuilder, Norm, Size};

/// Added to divisor and factor of the slopes.
const SLOPE_EPS: f64 = 1e-5;

/// Linear attention whose heads forget at constant rates, the slower the higher the layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Lightning {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads.
    pub heads: Size,
    /// Width of a head.
    pub head_dim: Size,
    /// Of queries, keys and values.
    pub activation: UnaryOp,
    /// Number of the model's layers.
    pub layers: usize,
}

impl ModelBuilder<'_> {
    /// Lightning attention: `norm(o) ⊙ σ(x·G)` through a layer, for `o = Sᵀq` and `S ← e^-slope·S + k·vᵀ` in each head.
    pub fn lightning(&self, name: &str, x: &Value, lightning: &Lightning) -> Value {
        let m = &self.scope(name);
        let Lightning { width, heads, head_dim, activation, layers } = lightning;
        let (inner, h, d) = (heads * head_dim, heads.value(), head_dim.value());
        let (b, s) = (x.dim(0), x.dim(1));
        let all = m.linear("qkv_proj", x, [width, &(&inner * 3)], LinearKind::PLAIN).unary(*activation);
        let all = all.reshape([b.clone(), s.clone(), h.into(), 1.into(), (3 * d).into()]);
        let part = |i: usize| all.slice(4, i * d, (i + 1) * d);
        let log_decay = m.slopes(h, *layers).unary(UnaryOp::Neg).reshape([1, 1, h, 1, 1]);
        let log_decay = log_decay.broadcast([b.clone(), s.clone(), h.into(), 1.into(), 1.into()]);
        let heads = Heads {
            query: &part(0),
            key: &part(1),
            value: &part(2),
            log_decay: Some(&log_decay),
            delta: None,
            before: false,
        };
        let mixed = m.linear_attention("state", &heads).reshape([b, s, inner.value().into()]);
        let normal = m.norm("norm", &mixed, &Norm::rms(&inner, 1e-6));
        let gate = m.linear("output_gate", x, [width, &inner], LinearKind::PLAIN).sigmoid();
        m.linear("out_proj", &(gate * normal), [&inner, width], LinearKind::PLAIN)
    }

    /// How fast each of `heads` heads of the current layer forgets: ALiBi's slopes (arXiv:2108.12409), less in each
    /// layer than in the one before.
    fn slopes(&self, heads: usize, layers: usize) -> Value {
        let slope = |head: usize| (-8.0 * head as f64 / heads as f64).exp2();
        let divisor = (layers - 1) as f64 + SLOPE_EPS;
        let before = self.layer_number() - 1.0;
        self.builder.vector((1..=heads).map(slope).collect()) * (before * (-1.0 / divisor) + (1.0 + SLOPE_EPS))
    }
}
