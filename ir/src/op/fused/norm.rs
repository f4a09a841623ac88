//! Normalisation over the last axis.

use super::{FusedOp, fused_op};
use crate::builder::Value;
use crate::op::attributes::{attributes, named_enum};
use crate::op::{TypeError, UnaryOp};

named_enum! {
    /// What a norm subtracts and divides by.
    NormKind {
        /// Root mean square, no subtraction (arXiv:1910.07467).
        Rms => "rms",
        /// Mean and standard deviation (arXiv:1607.06450).
        Layer => "layer",
    }
}

/// `(x - mean) / √(mean((x - mean)²) + eps)`, times a weight, plus a bias; RMS without the means'
/// subtraction.
///
/// Operands `x: [.., n]`, then optionally `weight: [n]`, then optionally `bias: [n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square.
    pub eps: f64,
}
attributes!(Norm { kind: NormKind, eps: f64 });
fused_op!(Norm = "norm");

impl FusedOp for Norm {
    fn expand(&self, operands: &[Value]) -> Result<Vec<Value>, TypeError> {
        let [x, affine @ ..] = operands else { return Err(TypeError("takes an operand".into())) };
        if affine.len() > 2 || x.rank() == 0 {
            return Err(TypeError("takes x, weight and bias".into()));
        }
        let centred = match self.kind {
            NormKind::Rms => x.clone(),
            NormKind::Layer => x - x.mean_last(),
        };
        let scale = ((&centred * &centred).mean_last() + self.eps).unary(UnaryOp::Rsqrt);
        let normal = centred * scale;
        Ok(vec![match affine {
            [] => normal,
            [weight] => normal * weight,
            [weight, bias, ..] => normal * weight + bias,
        }])
    }
}
