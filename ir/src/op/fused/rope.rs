//! Rotary position embedding.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::op::attributes::attributes;
use crate::op::{Slice, TypeError};

/// Rotates pairs of channels by position-dependent angles (RoFormer, arXiv:2104.09864).
///
/// Operands `x: [.., d]`, `cos` and `sin`, which broadcast to `[.., r/2]` with `r ≤ d`. Channel `i`
/// is paired with `i + r/2`, as in transformers' `rotate_half`; channels from `r` on stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Whether `x` has its pairs side by side: channel `2i` is paired with `2i + 1`. The result has them
    /// apart all the same, first channels before second ones; products of heads do not depend on the order.
    pub interleaved: bool,
}
attributes!(Rope { interleaved: bool });
fused_op!(Rope = "rope");

impl FusedOp for Rope {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let [x, cos, sin] = operands else { return Err(TypeError("takes x, cos and sin".into())) };
        let (last, extent) = (x.rank().saturating_sub(1), |v: &Value| v.ty().shape.last()?.as_constant());
        let (Some(width), Some(half)) = (extent(x), extent(cos)) else {
            return Err(TypeError("the last axes of x and cos have constant extents".into()));
        };
        let part =
            |start: i64, end: i64, step| x.apply(Slice { axis: last, start: start.into(), end: end.into(), step }, &[]);
        let (low, high) = match self.interleaved {
            true => (part(0, 2 * half, Some(2)), part(1, 2 * half, Some(2))),
            false => (part(0, half, None), part(half, 2 * half, None)),
        };
        let rotated_low = &low * cos - &high * sin;
        let rotated_high = &high * cos + &low * sin;
        let mut parts = vec![&rotated_low, &rotated_high];
        let rest = (2 * half < width).then(|| x.slice(last, 2 * half, width));
        parts.extend(&rest);
        Ok(vec![x.builder().concat(last, &parts)])
    }
}
