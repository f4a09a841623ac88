//! RWKV-5 and RWKV-6 (arXiv:2404.05892): gated linear attention in which a token reads its own value by a bonus.

use castiron_ir::Value;
use castiron_ir::op::{ReduceKind, UnaryOp};

use super::recurrent::Heads;
use super::{LinearKind, LowRank, Mix, ModelBuilder, Size};

/// The mixer of RWKV-5 and RWKV-6.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv6 {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads.
    pub heads: Size,
    /// Width of a head's keys.
    pub key_dim: Size,
    /// Width of a head's values.
    pub value_dim: Size,
    /// Names of the layers of receptance, key, value, gate and output.
    pub layers: [&'static str; 5],
    /// What is mixed before them.
    pub mixes: Mixes,
    /// `ln(-ln w)` of the decays.
    pub decay: Decay,
    /// Name of the bonus.
    pub bonus: &'static str,
    /// Name and epsilon of the norm of heads.
    pub norm: (&'static str, f64),
}

/// Where the logarithm of the logarithm of the decay is from.
#[derive(Clone, Debug, PartialEq)]
pub enum Decay {
    /// A tensor `[heads, keys]`.
    Stored(&'static str),
    /// A layer on the token.
    OfToken(LowRank),
}

/// How the inputs of receptance, decay, key, value and gate are mixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixes {
    /// As stored: receptance, key, value, gate.
    Stored([Mix; 4]),
    /// By layers of low rank on a first mix of the token.
    OfToken {
        /// The first mix.
        first: Mix,
        /// Width between.
        rank: Size,
        /// Where they are.
        tensors: MixTensors,
    },
}

/// Where the layers of low rank of a mix are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixTensors {
    /// `time_maa_w1: [n, 5·rank]`, `time_maa_w2: [5, rank, n]` in the order w, k, v, r, g, and a tensor for each bias.
    Plain,
    /// `x_proj.0.linear: [5·rank, n]`, `x_proj.2: [n, 5·rank]` and `x_bias: [5, n]` in the order r, w, k, v, g.
    Layers,
}

impl ModelBuilder<'_> {
    /// The mixer of RWKV-5 and RWKV-6: `o = Sᵀr + (r·(u⊙k))·v`, then `S ← diag(w)·S + k·vᵀ`.
    pub fn rwkv6(&self, name: &str, x: &Value, rwkv: &Rwkv6) -> Value {
        let (m, width, heads) = (&self.scope(name), &rwkv.width, &rwkv.heads);
        let (keys, values) = (heads * &rwkv.key_dim, heads * &rwkv.value_dim);
        let (x, difference) = m.with_difference("attention.shift", x);
        let [of_r, of_w, of_k, of_v, of_g] = m.mixes(&x, &difference, rwkv).map(|mix| &x + &difference * mix);
        let layer = |j: usize, x: &Value, widths| m.linear(rwkv.layers[j], x, widths, LinearKind::PLAIN);
        let of_keys = |x: Value| m.as_heads(&x, [heads, &rwkv.key_dim]);
        let r = of_keys(layer(0, &of_r, [width, &keys]));
        let k = of_keys(layer(1, &of_k, [width, &keys]));
        let v = m.as_heads(&layer(2, &of_v, [width, &values]), [heads, &rwkv.value_dim]);
        let g = layer(3, &of_g, [width, &values]).unary(UnaryOp::Silu);
        let of_head = |name| m.param(name, &[heads, &rwkv.key_dim]).reshape([heads.value(), 1, rwkv.key_dim.value()]);
        let decay = match &rwkv.decay {
            Decay::Stored(name) => of_head(name).broadcast(k.ty().shape),
            Decay::OfToken(layer) => of_keys(m.low_rank(&of_w, [width, &keys], layer)),
        };
        let log_decay = -decay.unary(UnaryOp::Exp);
        let read = m.linear_attention(
            "state",
            &Heads { query: &r, key: &k, value: &v, log_decay: Some(&log_decay), delta: None, before: true },
        );
        let own = (r * k * of_head(rwkv.bonus)).reduce(ReduceKind::Sum, &[4]) * v;
        let out = m.group_norm(rwkv.norm, &(read + own), &values) * g;
        layer(4, &out, [&values, width])
    }

    /// What is mixed in for receptance, decay, key, value and gate.
    fn mixes(&self, x: &Value, difference: &Value, rwkv: &Rwkv6) -> [Value; 5] {
        let (m, width) = (self, &rwkv.width);
        let (first, rank, tensors) = match &rwkv.mixes {
            Mixes::Stored(mixes) => {
                let [r, k, v, g] = mixes.map(|mix| m.mix(mix, width));
                return [r, k.clone(), k, v, g];
            }
            Mixes::OfToken { first, rank, tensors } => (*first, rank, *tensors),
        };
        let (n, low, count, one) = (width.value(), rank.value(), Size::new(5, "5"), Size::new(1, "1"));
        let input = x + difference * m.mix(first, width);
        let all = rank * 5;
        let down = match tensors {
            MixTensors::Plain => m.param("time_maa_w1", &[width, &all]).transpose(&[1, 0]),
            MixTensors::Layers => m.param("x_proj.0.linear.weight", &[&all, width]),
        };
        let lows = input.linear(&down).unary(UnaryOp::Tanh);
        let part = |j: usize| lows.slice(2, j * low, (j + 1) * low);
        match tensors {
            MixTensors::Plain => {
                let up = m.param("time_maa_w2", &[&count, rank, width]);
                let of = |(j, name): (usize, &str)| {
                    let up = up.slice(0, j, j + 1).reshape([low, n]).transpose(&[1, 0]);
                    part(j).linear(&up) + m.param(&format!("time_maa_{name}"), &[&one, &one, width])
                };
                [(3, "r"), (0, "w"), (1, "k"), (2, "v"), (4, "g")].map(of)
            }
            MixTensors::Layers => {
                let (up, bias) = (m.param("x_proj.2.weight", &[width, &all]), m.param("x_bias", &[&count, width]));
                let of = |j: usize| {
                    part(j).linear(&up.slice(1, j * low, (j + 1) * low)) + bias.slice(0, j, j + 1).reshape([n])
                };
                [0, 1, 2, 3, 4].map(of)
            }
        }
    }
}
