//! Scaled dot-product attention with grouped heads.

use super::softmax::{masked_softmax, softmax_with_sinks};
use super::{FusedOp, Softmax, fused_op};
use crate::builder::Value;
use crate::dim::Dim;
use crate::op::attributes::attributes;
use crate::op::{BinaryOp, Dot, TypeError, UnaryOp};

/// `softmax(scale · q·kᵀ + bias) · v` over the visible keys (arXiv:1706.03762; grouped heads
/// arXiv:2305.13245). A query that sees no key gives zeros.
///
/// Operands: `q: [b, g, r, s, d]` (key head, query heads of it), `k: [b, g, t, d]`,
/// `v: [b, g, t, e]` → `[b, g, r, s, e]`; then, where the attribute says so, `past: i32[b]`,
/// `mask: bool[b, t]`, a `bias` that broadcasts to `[b, g, r, s, t]`, and `sinks` that broadcast to
/// `[b, g, r, s, 1]`: scores that take their share of the softmax and bring no value (arXiv:2309.17453). Keys and values of another float
/// type than the queries, as those of a cache in half precision, are converted to theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Factor of the scores, before bias and soft cap.
    pub scale: f64,
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f64>,
    /// Query `i` of batch entry `n` sees key `j` if `j ≤ past[n] + i`.
    pub causal: bool,
    /// And only if `j > past[n] + i - window`; where a query sees what comes after it, also only if
    /// `j < past[n] + i + window`.
    pub window: Option<usize>,
    /// Whether positions before the first query are given, as with a KV cache; else they are 0.
    pub past: bool,
    /// Whether keys are masked, as by padding; false hides a key.
    pub mask: bool,
    /// Whether a bias is added to the scaled scores.
    pub bias: bool,
    /// Whether each query has a score without a key.
    pub sinks: bool,
}
attributes!(Attention {
    scale: f64,
    soft_cap: Option<f64>,
    causal: bool,
    window: Option<usize>,
    past: bool,
    mask: bool,
    bias: bool,
    sinks: bool,
});
fused_op!(Attention = "attention");

/// The operands of an [`Attention`] by name.
pub struct AttentionOperands<'a> {
    /// Queries.
    pub q: &'a Value,
    /// Keys.
    pub k: &'a Value,
    /// Values.
    pub v: &'a Value,
    /// Positions before the first query.
    pub past: Option<&'a Value>,
    /// Visible keys.
    pub mask: Option<&'a Value>,
    /// Added to the scores.
    pub bias: Option<&'a Value>,
    /// Scores without a key.
    pub sinks: Option<&'a Value>,
}

impl Attention {
    /// Number of operands.
    pub fn operands(&self) -> usize {
        3 + [self.past, self.mask, self.bias, self.sinks].into_iter().filter(|&is_there| is_there).count()
    }

    /// Splits an operand list by the attributes.
    ///
    /// # Errors
    /// Another number of operands, or ranks, than the attributes ask for.
    pub fn split<'a>(&self, operands: &'a [Value]) -> Result<AttentionOperands<'a>, TypeError> {
        let wrong = || TypeError("takes q, k, v, and past, mask, bias and sinks as the attributes say".into());
        let mut rest = operands.iter();
        let mut next = |wanted: bool| if wanted { rest.next().map(Some).ok_or_else(wrong) } else { Ok(None) };
        let (q, k, v) = (next(true)?, next(true)?, next(true)?);
        let (past, mask) = (next(self.past)?, next(self.mask)?);
        let (bias, sinks) = (next(self.bias)?, next(self.sinks)?);
        match (q, k, v, rest.next()) {
            (Some(q), Some(k), Some(v), None) if q.rank() == 5 && k.rank() == 4 && v.rank() == 4 => {
                Ok(AttentionOperands { q, k, v, past, mask, bias, sinks })
            }
            _ => Err(wrong()),
        }
    }

    /// Which keys each query sees, broadcasting to `[b, g, r, s, t]`; `None` when all.
    fn visible(&self, operands: &AttentionOperands<'_>) -> Option<Value> {
        let (q, k) = (operands.q, operands.k);
        let (b, s, t) = (q.dim(0), q.dim(3), k.dim(2));
        let one = || Dim::from(1);
        let mut conditions = Vec::new();
        if self.causal || self.window.is_some() {
            let key = q.builder().iota([t.clone()], 0);
            let row = q.builder().iota([s, one()], 0);
            let query = match operands.past {
                Some(past) => past.reshape([b.clone(), one(), one(), one(), one()]) + row,
                None => row,
            };
            if self.causal {
                conditions.push(key.binary(BinaryOp::Le, &query));
            }
            if let Some(window) = self.window {
                conditions.push(key.binary(BinaryOp::Gt, &(&query - window as f64)));
                if !self.causal {
                    conditions.push(key.binary(BinaryOp::Lt, &(query + window as f64)));
                }
            }
        }
        if let Some(mask) = operands.mask {
            conditions.push(mask.reshape([b, one(), one(), one(), t]));
        }
        conditions.into_iter().reduce(|a, c| a.binary(BinaryOp::And, &c))
    }
}

impl FusedOp for Attention {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let named = self.split(operands)?;
        let scores = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(4, 3)] };
        let [k, v] = [named.k, named.v].map(|x| as_queries(named.q, x));
        let mut scores = named.q.apply(scores, &[&k]) * self.scale;
        if let Some(cap) = self.soft_cap {
            scores = (scores * (1.0 / cap)).unary(UnaryOp::Tanh) * cap;
        }
        if let Some(bias) = named.bias {
            scores = scores + bias;
        }
        let weights = match (self.visible(&named), named.sinks) {
            (Some(visible), sinks) => masked_softmax(&scores, &visible, sinks),
            (None, Some(sinks)) => softmax_with_sinks(&scores, sinks),
            (None, None) => Softmax {}.expand(&[scores])?.swap_remove(0),
        };
        let mix = Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(4, 2)] };
        Ok(vec![weights.apply(mix, &[&v])])
    }
}

/// Keys or values in the element type of the queries.
fn as_queries(q: &Value, x: &Value) -> Value {
    let (to, from) = (q.ty().dtype, x.ty().dtype);
    if to != from && to.is_float() && from.is_float() { x.cast(to) } else { x.clone() }
}
