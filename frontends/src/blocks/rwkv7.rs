//! RWKV-7 (arXiv:2503.14456): a state that is corrected by what it answers for a key of its own.

use castiron_ir::Value;
use castiron_ir::op::{ReduceKind, UnaryOp};

use super::recurrent::Heads;
use super::token_shift::at_least;
use super::{LinearKind, LowRank, Mix, MixTensor, ModelBuilder, Size};

/// RWKV-7's mixer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv7 {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads.
    pub heads: Size,
    /// Width of a head's keys.
    pub key_dim: Size,
    /// Width of a head's values.
    pub value_dim: Size,
    /// Names of the layers of receptance, key, value and output.
    pub layers: [&'static str; 4],
    /// Decay, rate of correction, share of the first layer's values, gate.
    pub low_ranks: [LowRank; 4],
    /// How `k_k` and `k_a` are stored.
    pub vectors: MixTensor,
    /// Scales the keys of corrections to unit length.
    pub unit: UnitLength,
    /// Name and epsilon of the norm of heads.
    pub norm: (&'static str, f64),
    /// Whether it is the first layer, whose values all others read.
    pub is_first: bool,
}

/// How vectors are scaled to unit length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnitLength {
    /// Divided by their length, which is at least so much.
    AtLeast(f64),
    /// Divided by the root of so much more than the sum of squares.
    Added(f64),
}

impl ModelBuilder<'_> {
    /// RWKV-7's mixer: `S ← diag(w)·S - (κ⊙a)·(Sᵀκ)ᵀ + k·vᵀ`, `o = Sᵀr`, where all depend on the token.
    pub fn rwkv7(&self, name: &str, x: &Value, rwkv: &Rwkv7) -> Value {
        let (m, width, heads) = (&self.scope(name), &rwkv.width, &rwkv.heads);
        let (keys, values) = (heads * &rwkv.key_dim, heads * &rwkv.value_dim);
        let (x, difference) = m.with_difference("attention.shift", x);
        let mixed = |name| &x + &difference * m.mix(Mix { name, holds: MixTensor::Row }, width);
        let [of_r, of_w, of_k, of_v, of_a, of_g] = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"].map(mixed);
        let [decay, rate, share, gate] = &rwkv.low_ranks;
        let layer = |j: usize, x: &Value, widths| m.linear(rwkv.layers[j], x, widths, LinearKind::PLAIN);
        let r = layer(0, &of_r, [width, &keys]);
        let k = layer(1, &of_k, [width, &keys]);
        let mut v = layer(2, &of_v, [width, &values]);
        match m.context.of_first.get() {
            Some(first) if !rwkv.is_first => {
                v = &v + (first - &v) * m.low_rank(&of_v, [width, &values], share).sigmoid();
            }
            // The cell is empty: layers are written once, the first before all others.
            _ => drop(m.context.of_first.set(v.clone())),
        }
        let log_decay = m.low_rank(&of_w, [width, &keys], decay).sigmoid() * -(-0.5_f64).exp();
        let a = m.low_rank(&of_a, [width, &keys], rate).sigmoid();
        let g = m.low_rank(&of_g, [width, &values], gate);
        let vector = |name| m.mix(Mix { name, holds: rwkv.vectors }, &keys);
        let of_keys = |x: &Value| m.as_heads(x, [heads, &rwkv.key_dim]);
        let kappa = unit_length(&of_keys(&(&k * vector("k_k"))), rwkv.unit);
        let k = of_keys(&(&k * ((&a - 1.0) * vector("k_a") + 1.0)));
        let (r, v) = (of_keys(&r), m.as_heads(&v, [heads, &rwkv.value_dim]));
        let delta = [-kappa.clone(), &kappa * of_keys(&a)];
        let read = m.linear_attention(
            "state",
            &Heads {
                query: &r,
                key: &k,
                value: &v,
                log_decay: Some(&of_keys(&log_decay)),
                delta: Some(delta.each_ref()),
                before: false,
            },
        );
        let bonus = m.param("r_k", &[heads, &rwkv.key_dim]).reshape([heads.value(), 1, rwkv.key_dim.value()]);
        let own = (r * k * bonus).reduce(ReduceKind::Sum, &[4]) * v;
        let flat = [x.dim(0), x.dim(1), values.value().into()];
        let out = (m.group_norm(rwkv.norm, &read, &values) + own.reshape(flat)) * g;
        layer(3, &out, [&values, width])
    }
}

/// Vectors of the last axis at unit length.
fn unit_length(x: &Value, unit: UnitLength) -> Value {
    let squares = (x * x).reduce(ReduceKind::Sum, &[x.rank().saturating_sub(1)]);
    match unit {
        UnitLength::AtLeast(least) => x / at_least(&squares.unary(UnaryOp::Sqrt), least),
        UnitLength::Added(eps) => x * (squares + eps).unary(UnaryOp::Rsqrt),
    }
}
