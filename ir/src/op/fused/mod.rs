//! Fused ops: made by passes, defined by their expansion into plain ops.
//!
//! The expansion is the only definition: the type rule and the evaluation follow from it, passes
//! recognise it in a graph, and model builders write it where they want the op.

mod attention;
mod gated_mlp;
mod linear_attention;
mod norm;
mod rope;
mod selective_scan;
mod softmax;

pub use attention::Attention;
pub use gated_mlp::GatedMlp;
pub use linear_attention::LinearAttention;
pub use norm::{Norm, NormKind};
pub use rope::Rope;
pub use selective_scan::SelectiveScan;
pub use softmax::{Softmax, masked_softmax};

use super::TypeError;
use crate::builder::{Builder, Value};
use crate::graph::Region;
use crate::types::Type;

/// An op that stands for a group of plain ops.
pub trait FusedOp {
    /// Writes the plain ops that define this op.
    ///
    /// # Errors
    /// Operands that the op does not take.
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError>;
}

/// The expansion on operands of given types, as a region of its own.
///
/// # Errors
/// Operands that the op does not take.
pub fn expansion(op: &dyn FusedOp, operands: &[Type]) -> Result<Region, TypeError> {
    let builder = Builder::new();
    let name = |i: usize| format!("a{i}");
    let arguments: Vec<Value> =
        operands.iter().enumerate().map(|(i, ty)| builder.argument(&name(i), ty.clone())).collect();
    let results = op.expand(&arguments)?;
    let results: Vec<&Value> = results.iter().collect();
    builder.finish(&results).map_err(|e| TypeError(e.to_string()))
}

/// Implements the op traits of a fused op from its expansion.
macro_rules! fused_op {
    ($Op:ident = $name:literal) => {
        impl $crate::op::OpDef for $Op {
            fn name(&self) -> &'static str {
                $name
            }
            fn result_types(
                &self,
                operands: &[$crate::types::Type],
            ) -> Result<Vec<$crate::types::Type>, $crate::op::TypeError> {
                let region = $crate::op::fused::expansion(self, operands)?;
                Ok(region.types_of(&region.results))
            }
            fn evaluate(
                &self,
                operands: &[&$crate::tensor::Tensor],
                frame: &mut $crate::interpret::Frame<'_>,
            ) -> Result<Vec<$crate::tensor::Tensor>, $crate::interpret::EvalError> {
                let types: Vec<_> =
                    operands.iter().map(|t| $crate::types::Type::new(t.dtype, t.shape.iter().copied())).collect();
                let region = $crate::op::fused::expansion(self, &types)?;
                let operands: Vec<_> = operands.iter().map(|&t| t.clone()).collect();
                frame.run(&region, &operands)
            }
            fn as_fused(&self) -> Option<&dyn $crate::op::fused::FusedOp> {
                Some(self)
            }
        }
    };
}
use fused_op;
