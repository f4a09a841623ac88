//! Linear attention with gates: retention (RetNet, arXiv:2307.08621) and gated linear attention (arXiv:2312.06635).

use castiron_ir::Value;
use castiron_ir::op::{Rope, UnaryOp};

use super::recurrent::Heads;
use super::token_shift::at_least;
use super::{LinearKind, ModelBuilder, Norm, NormWeight, Size};

/// A mixer whose heads forget at a pace of their own, in groups of queries that share a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of query heads.
    pub heads: Size,
    /// Number of key and value heads.
    pub kv_heads: Size,
    /// Width of a head's keys.
    pub key_dim: Size,
    /// Width of a head's values.
    pub value_dim: Size,
    /// How much of a state is left from token to token.
    pub decay: HeadDecay,
    /// Taps of convolutions of queries, keys and values before all else.
    pub convolution: Option<Size>,
    /// Applied to queries and keys.
    pub feature_map: Option<FeatureMap>,
    /// The table that turns queries and keys.
    pub rotary: Option<usize>,
    /// Whether a gate is multiplied with what heads read.
    pub gated: bool,
    /// Name of the norm of heads.
    pub norm: &'static str,
    /// Epsilon of the norm, and whether it has a weight.
    pub eps: (f64, bool),
}

/// Where decays are from.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadDecay {
    /// `1 - 2^(-5-h)` for head `h`.
    Fixed,
    /// `σ(x·A·B + b)^(1/16)` for each key channel, with a logarithm of at least so much.
    OfToken {
        /// Width between A and B.
        rank: Size,
        /// Bound of the logarithm.
        least: Option<f64>,
    },
}

/// Functions of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureMap {
    /// One that is an op.
    Unary(UnaryOp),
    /// `ln σ(x)`
    LogSigmoid,
}

impl FeatureMap {
    fn of(self, x: &Value) -> Value {
        match self {
            FeatureMap::Unary(op) => x.unary(op),
            FeatureMap::LogSigmoid => log_sigmoid(x),
        }
    }
}

fn log_sigmoid(x: &Value) -> Value {
    -(-x.clone()).unary(UnaryOp::Softplus)
}

impl ModelBuilder<'_> {
    /// Retention: `S ← diag(γ)·S + k·vᵀ`, `o = Sᵀq/√d`, with a norm for each head.
    pub fn retention(&self, name: &str, x: &Value, retention: &Retention) -> Value {
        let Retention { width, heads, kv_heads, key_dim, value_dim, .. } = retention;
        let m = &self.scope(name);
        let (x, g) = (&m.without_padding(x), kv_heads.value());
        let part = |letter: &str, count: &Size, d: &Size| {
            let channels = count * d;
            let y = m.linear(&format!("{letter}_proj"), x, [width, &channels], LinearKind::PLAIN);
            let y = match &retention.convolution {
                Some(taps) => {
                    let name = format!("{letter}_conv1d");
                    m.causal_convolution(&name, &y, [&channels, taps], false).unary(UnaryOp::Silu)
                }
                None => y,
            };
            y.reshape([x.dim(0), x.dim(1), g.into(), (count.value() / g).into(), d.value().into()])
        };
        let mapped = |x: Value| retention.feature_map.map_or_else(|| x.clone(), |map| map.of(&x));
        let q = m.turned(mapped(part("q", heads, key_dim)), retention.rotary);
        let q = q * (1.0 / (key_dim.value() as f64).sqrt());
        let k = m.turned(mapped(part("k", kv_heads, key_dim)), retention.rotary);
        let v = part("v", kv_heads, value_dim);
        let log_decay = m.head_decay(x, retention);
        let read = m.linear_attention(
            "state",
            &Heads { query: &q, key: &k, value: &v, log_decay: Some(&log_decay), delta: None, before: false },
        );
        let (eps, weighted) = retention.eps;
        let weight = if weighted { NormWeight::Stored } else { NormWeight::None };
        let norm = Norm { weight, ..Norm::rms(value_dim, eps) };
        let values = heads * value_dim;
        let mut out = m.norm(retention.norm, &read, &norm).reshape([x.dim(0), x.dim(1), values.value().into()]);
        if retention.gated {
            out = out * m.linear("g_proj", x, [width, &values], LinearKind::PLAIN).unary(UnaryOp::Silu);
        }
        m.linear("o_proj", &out, [&values, width], LinearKind::PLAIN)
    }

    /// Logarithms of decays, `[b, s, g, r or 1, k or 1]`.
    fn head_decay(&self, x: &Value, retention: &Retention) -> Value {
        let Retention { width, heads, kv_heads, key_dim, .. } = retention;
        let (g, r) = (kv_heads.value(), heads.value() / kv_heads.value());
        match &retention.decay {
            HeadDecay::Fixed => {
                let log = |head: usize| (-(-5.0 - head as f64).exp2()).ln_1p();
                let all = self.builder.vector((0..g * r).map(log).collect()).reshape([g, r, 1]);
                all.broadcast([x.dim(0), x.dim(1), g.into(), r.into(), 1.into()])
            }
            HeadDecay::OfToken { rank, least } => {
                let low = self.linear("gk_proj.0", x, [width, rank], LinearKind::PLAIN);
                let gate = self.linear("gk_proj.1", &low, [rank, &(kv_heads * key_dim)], LinearKind::BIASED);
                let log = log_sigmoid(&self.as_heads(&gate, [kv_heads, key_dim])) * (1.0 / 16.0);
                least.map_or_else(|| log.clone(), |least| at_least(&log, least))
            }
        }
    }

    /// Heads `[b, s, g, r, d]` turned by their positions, if a table is named.
    fn turned(&self, x: Value, table: Option<usize>) -> Value {
        let Some(angles) = table.and_then(|table| self.angles(table)) else { return x };
        self.expand("rope", &Rope { interleaved: angles.interleaved }, &[&x, &angles.cos, &angles.sin])
    }
}
