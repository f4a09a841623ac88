//! Linear attention: a recurrence whose state is a matrix for each head.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::dim::Dim;
use crate::op::attributes::attributes;
use crate::op::{ReduceKind, TypeError};

/// A matrix `S: [k, e]` for each head, from keys to values, that every token decays, corrects and adds to:
/// `S ← diag(w)·S + b·(Sᵀa)ᵀ + k·vᵀ`, read as `o = Sᵀq`.
///
/// Operands: the first state `[b, g, r, k, e]`; then the sequences `q` and `k`, `[b, s, g, r, k]`, `v:
/// [b, s, g, r, e]`, and what the attributes name, `w`, `a` and `b`, like `q`. Axes of extent 1 behind `s`
/// broadcast, so that one key serves the `r` queries of a group, and one decay a head. Results: the last state
/// and `o: [b, s, g, r, e]`.
///
/// | model | decay | delta | before |
/// |---|---|---|---|
/// | lightning attention without decay | | | |
/// | retention (arXiv:2307.08621), lightning attention, Mamba-2's SSD (arXiv:2405.21060), mLSTM (arXiv:2405.04517) | a number for each head | | |
/// | gated linear attention (arXiv:2312.06635) | a number for each key channel | | |
/// | RWKV-5 and -6 (arXiv:2404.05892) | each key channel | | yes |
/// | gated delta rule (arXiv:2412.06464) | each head | `a = -w·β·k`, `b = k` | |
/// | Kimi delta attention (arXiv:2510.26692), RWKV-7 (arXiv:2503.14456) | each key channel | yes | |
#[derive(Clone, Debug, PartialEq)]
pub struct LinearAttention {
    /// Whether states decay: `w`.
    pub decay: bool,
    /// Whether states are corrected by what they hold: `a` and `b`.
    pub delta: bool,
    /// Whether `q` reads the state as it was before its own token.
    pub before: bool,
}
attributes!(LinearAttention { decay: bool, delta: bool, before: bool });
fused_op!(LinearAttention = "linear_attention");

impl LinearAttention {
    /// How many operands it has.
    pub fn operands(&self) -> usize {
        4 + usize::from(self.decay) + 2 * usize::from(self.delta)
    }
}

impl FusedOp for LinearAttention {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let [state, sequences @ ..] = operands else { return Err(TypeError("takes a state".into())) };
        if operands.len() != self.operands() || operands.iter().any(|operand| operand.rank() != 5) {
            return Err(TypeError(format!("takes {} operands of rank 5", self.operands())));
        }
        let sequences: Vec<&Value> = sequences.iter().collect();
        let step = |values: &[Value]| {
            let (state, mut tokens) = (&values[0], values[1..].iter());
            let mut column = || tokens.next().map(|x| with_axis(x, 4));
            let (query, key) = (column()?, column()?);
            let value = with_axis(values.get(3)?, 3);
            let mut rest = values[4..].iter().map(|x| with_axis(x, 4));
            let decayed = if self.decay { state * rest.next()? } else { state.clone() };
            let corrected = match self.delta {
                true => decayed + (state * rest.next()?).reduce(ReduceKind::Sum, &[3]) * rest.next()?,
                false => decayed,
            };
            let next = corrected + key * value;
            let read = (if self.before { state } else { &next } * query).reduce(ReduceKind::Sum, &[3]);
            let shape = read.ty().shape;
            Some(vec![next, read.reshape([0, 1, 2, 4].map(|axis| shape[axis].clone()))])
        };
        let body = |values: &[Value]| step(values).unwrap_or_else(|| values[..1].to_vec());
        Ok(state.builder().scan(1, [&[state], &sequences, &[]], |_, values| body(values)))
    }
}

/// A token's vector with another axis of extent 1.
fn with_axis(x: &Value, axis: usize) -> Value {
    let mut shape = x.ty().shape;
    shape.insert(axis, Dim::from(1));
    x.reshape(shape)
}
