//! Selective scan: Mamba's recurrence.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::op::attributes::attributes;
use crate::op::{Dot, TypeError, UnaryOp};

/// A vector of `n` numbers for each channel, which decay by a step that depends on the token:
/// `h ← e^(δ·A)·h + δ·u·B`, read as `y = C·h` (Mamba, arXiv:2312.00752).
///
/// Operands: the first state `[b, d, n]`; the sequences `u` and `δ: [b, s, d]`, `B` and `C: [b, s, n]`; and
/// `A: [d, n]`. Results: the last state and `y: [b, s, d]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectiveScan {}
attributes!(SelectiveScan {});
fused_op!(SelectiveScan = "selective_scan");

impl FusedOp for SelectiveScan {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let [state, u, delta, b, c, a] = operands else { return Err(TypeError("takes six operands".into())) };
        if [state, u, delta, b, c].iter().any(|operand| operand.rank() != 3) || a.rank() != 2 {
            return Err(TypeError("takes a state, four sequences of rank 3 and a matrix".into()));
        }
        let [rows, d, n] = [state.dim(0), state.dim(1), state.dim(2)];
        Ok(state.builder().scan(1, [&[state], &[u, delta, b, c], &[a]], |_, values| {
            let [h, u, delta, b, c, a] = values else { unreachable!("as many values as operands") };
            let column = |x: &Value| x.reshape([rows.clone(), d.clone(), 1.into()]);
            let row = |x: &Value| x.reshape([rows.clone(), 1.into(), n.clone()]);
            let h = h * (column(delta) * a).unary(UnaryOp::Exp) + column(&(delta * u)) * row(b);
            let y = h.apply(Dot { batch: vec![(0, 0)], contract: vec![(2, 1)] }, &[c]);
            vec![h, y]
        }))
    }
}
