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
/// padding never produces NaN; other rows have a sum of at least 1 before the division. `sinks`, of extent 1 along
/// that axis, are further elements of the sum, which are not returned.
pub fn masked_softmax(x: &Value, visible: &Value, sinks: Option<&Value>) -> Value {
    let last = x.rank().saturating_sub(1);
    let hidden = x.constant(f64::from(f32::MIN));
    let max = visible.select(x, &hidden).reduce(ReduceKind::Max, &[last]);
    let e = visible.select(&(x - &max).unary(UnaryOp::Exp), &x.constant(0.0));
    let sum = with_sinks(e.reduce(ReduceKind::Sum, &[last]), &max, sinks);
    let floor = x.constant(f64::from(f32::MIN_POSITIVE));
    &e / sum.binary(crate::op::BinaryOp::Max, &floor)
}

/// Softmax over the elements of the last axis and one more for each row, which is not returned.
pub(super) fn softmax_with_sinks(x: &Value, sinks: &Value) -> Value {
    let last = x.rank().saturating_sub(1);
    let max = x.reduce(ReduceKind::Max, &[last]);
    let e = (x - &max).unary(UnaryOp::Exp);
    &e / with_sinks(e.reduce(ReduceKind::Sum, &[last]), &max, Some(sinks))
}

/// A sum of exponentials beside the largest exponent. A sink far above that makes it ∞, and the weights 0.
fn with_sinks(sum: Value, max: &Value, sinks: Option<&Value>) -> Value {
    match sinks {
        Some(sinks) => sum + (sinks - max).unary(UnaryOp::Exp),
        None => sum,
    }
}
