//! The gated half of an MLP.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::op::attributes::{AttributeValue, attributes};
use crate::op::{TypeError, UnaryOp};
use crate::text::{Cursor, ParseError};

/// `act(x·Gᵀ + g) ⊙ (x·Uᵀ + u)`: SwiGLU, GeGLU and their kin (arXiv:2002.05202), one pass over `x`.
///
/// Operands `x: [.., k]`, gate and up weights `[n, k]`, then optionally both biases `[n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedMlp {
    /// Applied to the gate.
    pub activation: UnaryOp,
}
attributes!(GatedMlp { activation: UnaryOp });
fused_op!(GatedMlp = "gated_mlp");

impl FusedOp for GatedMlp {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let (gate, up) = match operands {
            [x, gate, up] => (x.linear(gate), x.linear(up)),
            [x, gate, up, gate_bias, up_bias] => (x.linear(gate) + gate_bias, x.linear(up) + up_bias),
            _ => return Err(TypeError("takes x, two weights and no or two biases".into())),
        };
        Ok(vec![gate.unary(self.activation) * up])
    }
}

impl AttributeValue for UnaryOp {
    fn print(&self) -> String {
        self.name().to_owned()
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let name = cursor.identifier()?;
        UnaryOp::from_name(name).ok_or_else(|| cursor.error(format!("`{name}` is not a function")))
    }
}
