//! Scaled dot-product attention with grouped heads.

use super::softmax::{masked_softmax, softmax_with_sinks};
use super::{FusedOp, Softmax, fused_op};
use crate::builder::Value;
use crate::dim::Dim;
use crate::op::attributes::attributes;
use crate::op::{BinaryOp, Dot, TypeError, UnaryOp, require};

/// `softmax(scale · q·kᵀ + bias) · v` over the visible keys (arXiv:1706.03762; grouped heads
/// arXiv:2305.13245). A query that sees no key gives zeros.
///
/// Operands: `q: [b, g, r, s, d]` (key head, query heads of it), `k: [b, g, t, d]`,
/// `v: [b, g, t, e]` → `[b, g, r, s, e]`; then, where the attribute says so, `scales` of keys and of values,
/// `[b, g, t, 1]` each, that these are multiplied with, `past: i32[b]`,
/// `mask: bool[b, t]`, a `bias` that broadcasts to `[b, g, r, s, t]`, and `sinks` that broadcast to
/// `[b, g, r, s, 1]`: scores that take their share of the softmax and bring no value (arXiv:2309.17453). Keys and
/// values of another type than the queries, as those of a cache in half precision or of 8 bits, are converted to
/// theirs.
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
    /// Whether keys and values are multiplied with scales of their own.
    pub scales: bool,
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
    scales: bool,
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
    /// Scales of keys and of values.
    pub scales: Option<[&'a Value; 2]>,
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
        let optional = [self.scales, self.scales, self.past, self.mask, self.bias, self.sinks];
        3 + optional.into_iter().filter(|&is_there| is_there).count()
    }

    /// Splits an operand list by the attributes.
    ///
    /// # Errors
    /// Another number of operands, or ranks, than the attributes ask for.
    pub fn split<'a>(&self, operands: &'a [Value]) -> Result<AttentionOperands<'a>, TypeError> {
        let wrong = || TypeError("takes q, k, v, and scales, past, mask, bias and sinks as the attributes say".into());
        let mut rest = operands.iter();
        let mut next = |wanted: bool| if wanted { rest.next().map(Some).ok_or_else(wrong) } else { Ok(None) };
        let (q, k, v) = (next(true)?, next(true)?, next(true)?);
        let scales = next(self.scales)?.zip(next(self.scales)?).map(|(k, v)| [k, v]);
        let (past, mask) = (next(self.past)?, next(self.mask)?);
        let (bias, sinks) = (next(self.bias)?, next(self.sinks)?);
        match (q, k, v, rest.next()) {
            (Some(q), Some(k), Some(v), None) if q.rank() == 5 && k.rank() == 4 && v.rank() == 4 => {
                Ok(AttentionOperands { q, k, v, scales, past, mask, bias, sinks })
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
        let [k, v] = [0, 1].map(|i| as_queries(named.q, [named.k, named.v][i], named.scales.map(|scales| scales[i])));
        let (k, v) = (k?, v?);
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

/// Keys or values in the element type of the queries, times their scales.
fn as_queries(q: &Value, x: &Value, scale: Option<&Value>) -> Result<Value, TypeError> {
    let to = q.ty().dtype;
    let plain = if x.ty().dtype == to { x.clone() } else { x.cast(to) };
    let Some(scale) = scale else { return Ok(plain) };
    let mut wanted = plain.ty();
    wanted.shape[3] = 1.into();
    require!(scale.ty() == wanted, "scales are {}, not {wanted}", scale.ty());
    Ok(plain * scale)
}
