//! Softmax over the last axis.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::op::attributes::attributes;
use crate::op::{ReduceKind, TypeError, UnaryOp};

/// `softmax(x)_j = e^(x_j - max x) / Σ_j e^(x_j - max x)` over the last axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {}
attributes!(Softmax {});
fused_op!(Softmax = "softmax");

impl FusedOp for Softmax {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let [x] = operands else { return Err(TypeError("takes one operand".into())) };
        let last = x.rank().checked_sub(1).ok_or_else(|| TypeError("takes no scalar".into()))?;
        let e = (x - x.reduce(ReduceKind::Max, &[last])).unary(UnaryOp::Exp);
        Ok(vec![&e / e.reduce(ReduceKind::Sum, &[last])])
    }
}

/// Softmax over the visible elements of the last axis. A row without any gives zeros, so that
/// padding never produces NaN; other rows have a sum of at least 1 before the division.
pub fn masked_softmax(x: &Value, visible: &Value) -> Value {
    let last = x.rank().saturating_sub(1);
    let hidden = x.constant(f64::from(f32::MIN));
    let max = visible.select(x, &hidden).reduce(ReduceKind::Max, &[last]);
    let e = visible.select(&(x - max).unary(UnaryOp::Exp), &x.constant(0.0));
    let sum = e.reduce(ReduceKind::Sum, &[last]);
    let floor = x.constant(f64::from(f32::MIN_POSITIVE));
    &e / sum.binary(crate::op::BinaryOp::Max, &floor)
}
