//! mLSTM, the LSTM with a matrix for a memory (arXiv:2405.04517, as in xLSTM-7B, arXiv:2503.13427).

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Type, Value};

use super::decoder::soft_capped;
use super::recurrent::Heads;
use super::{LinearKind, ModelBuilder, Norm, Size};

/// The logarithm of the share of what has none.
const NEVER: f64 = -1e30;

/// A mixer of tokens whose heads each keep a matrix of `key_dim` by `value_dim` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlstm {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads.
    pub heads: Size,
    /// Width of a head's queries and keys.
    pub key_dim: Size,
    /// Width of a head's values.
    pub value_dim: Size,
    /// Whether one layer makes queries, keys, values and output gates, and another the gates of the memory.
    pub joint: bool,
    /// Whether layers but those of the memory's gates, and the norm, have biases.
    pub bias: bool,
    /// The logarithms of the memory's gates become `cap · tanh(x / cap)`.
    pub gate_cap: f64,
    /// Added to what values are divided by.
    pub eps: f64,
    /// Epsilon of the norm of each head.
    pub norm_eps: f64,
}

/// What an mLSTM makes of its input before it mixes tokens.
struct Parts {
    /// Queries and keys `[b, s, heads·key_dim]`, values and output gates `[b, s, heads·value_dim]`.
    layers: [Value; 4],
    /// Input and forget gate before their functions, `[b, s, heads]`.
    gates: [Value; 2],
}

impl ModelBuilder<'_> {
    /// An mLSTM: `C ← f·C + i·k·vᵀ`, `n ← f·n + i·k`, `h = Cᵀq / max(|nᵀq|, 1)` in each head, with `i = e^ĩ` and
    /// `f = σ(f̃)`; then `norm(h) ⊙ σ(o)` through a layer.
    ///
    /// Padding before and after whole sequences is taken for tokens, as in transformers.
    pub fn mlstm(&self, name: &str, x: &Value, mlstm: &Mlstm) -> Value {
        let m = &self.scope(name).without_mask();
        let (h, dv) = (mlstm.heads.value(), mlstm.value_dim.value());
        let Parts { layers: [q, k, v, o], gates } = m.mlstm_parts(x, mlstm);
        let [i, log_f] = [gates[0].clone(), gates[1].unary(UnaryOp::Neg).unary(UnaryOp::Softplus).unary(UnaryOp::Neg)];
        let [most, log_decay] = m.stabilised(&i, &log_f);
        let (b, s) = (x.dim(0), x.dim(1));
        let heads = |x: &Value, d: usize| x.reshape([b.clone(), s.clone(), h.into(), 1.into(), d.into()]);
        let query = heads(&q, mlstm.key_dim.value()) * (mlstm.key_dim.value() as f64).powf(-0.5);
        let key = heads(&k, mlstm.key_dim.value()) * heads(&(i - &most).unary(UnaryOp::Exp), 1);
        // A value of one collects the normaliser.
        let one = self.builder.scalar(DType::F32, 1.0).broadcast([b.clone(), s.clone(), h.into(), 1.into(), 1.into()]);
        let value = self.builder.concat(4, &[&heads(&v, dv), &one]);
        let decay = heads(&log_decay, 1);
        let (log_decay, delta, before) = (Some(&decay), None, false);
        let read =
            m.linear_attention("memory", &Heads { query: &query, key: &key, value: &value, log_decay, delta, before });
        let least = heads(&most, 1).unary(UnaryOp::Neg).unary(UnaryOp::Exp);
        let divisor = read.slice(4, dv, dv + 1).unary(UnaryOp::Abs).binary(BinaryOp::Max, &least) + mlstm.eps;
        let mixed =
            m.unweighted_norm(&(read.slice(4, 0, dv) / divisor), &Norm::layer(&mlstm.value_dim, mlstm.norm_eps));
        let inner = &mlstm.heads * &mlstm.value_dim;
        let norm = m.scope("multihead_norm");
        let mut normal = mixed.reshape(o.ty().shape) * norm.param("weight", &[&inner]);
        if mlstm.bias {
            normal = normal + norm.param("bias", &[&inner]);
        }
        m.linear("out_proj", &(o.sigmoid() * normal), [&inner, &mlstm.width], LinearKind::with_bias(mlstm.bias))
    }

    fn mlstm_parts(&self, x: &Value, mlstm: &Mlstm) -> Parts {
        let (width, heads) = (&mlstm.width, &mlstm.heads);
        let kind = LinearKind::with_bias(mlstm.bias);
        let (keys, values) = (heads * &mlstm.key_dim, heads * &mlstm.value_dim);
        let (k, v, h) = (keys.value(), values.value(), heads.value());
        if mlstm.joint {
            let all = self.linear("qkv_opreact", x, [width, &(&(&keys * 2) + &(&values * 2))], kind);
            let gates = self.linear("ifgate_preact", x, [width, &(heads * 2)], LinearKind::BIASED);
            let gates = soft_capped(&gates, mlstm.gate_cap);
            let ends = [0, k, 2 * k, 2 * k + v, 2 * k + 2 * v];
            let layers = [0, 1, 2, 3].map(|i| all.slice(2, ends[i], ends[i + 1]));
            return Parts { layers, gates: [gates.slice(2, 0, h), gates.slice(2, h, 2 * h)] };
        }
        let layer = |name: &str, size: &Size| self.linear(name, x, [width, size], kind);
        let gate = |name: &str| soft_capped(&self.linear(name, x, [width, heads], LinearKind::BIASED), mlstm.gate_cap);
        Parts {
            layers: [layer("q", &keys), layer("k", &keys), layer("v", &values), layer("ogate_preact", &values)],
            gates: [gate("igate_preact"), gate("fgate_preact")],
        }
    }

    /// What keeps the exponential gates `[b, s, h]` within range: the logarithm of the largest share of a token so
    /// far, `m ← max(ln f + m, ĩ)`; and the logarithm of the decay of what is held in units of `e^m`.
    fn stabilised(&self, input: &Value, log_forget: &Value) -> [Value; 2] {
        let initial = self.recurrent("stabiliser", Type::new(DType::F32, [input.dim(0), input.dim(2)]));
        let log_forget = self.without_padding(log_forget);
        let input = match self.real_tokens().map(|real| real.reshape([input.dim(0), input.dim(1), 1.into()])) {
            Some(real) => real.binary(BinaryOp::Ne, &real.constant(0.0)).select(input, &input.constant(NEVER)),
            None => input.clone(),
        };
        let results = self.builder.scan(1, [&[&initial], &[&input, &log_forget], &[]], |_, values| {
            let [most, input, log_forget] = values else { unreachable!("as many values as operands") };
            let moved = most + log_forget;
            let most = moved.binary(BinaryOp::Max, input);
            vec![most.clone(), most.clone(), moved - most]
        });
        self.remember("stabiliser", &results[0]);
        [results[1].clone(), results[2].clone()]
    }
}
