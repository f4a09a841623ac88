//! Norms over the last axis: `x · rsqrt(mean x² + eps) · w` → `norm x, w kind=rms`.
//! One kernel that reads `x` once or twice instead of seven that write it.

use castiron_ir::op::{Binary, BinaryOp, Norm, NormKind, Op};
use castiron_ir::{BuildError, Region, Type};

use crate::pattern::{Form, fuse};

/// Fuses norms, with their weight and bias where those are vectors.
///
/// # Errors
/// As [`fuse`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    fuse(region, |chains, node| {
        if !matches!(node.op, Op::Binary(Binary(BinaryOp::Add | BinaryOp::Mul))) {
            return vec![];
        }
        forms(chains.region.type_of(node.results[0]))
    })
}

/// The larger forms first: a layer norm without its mean is an RMS norm of the centred `x`.
fn forms(root: &Type) -> Vec<Form> {
    let Some(width) = root.shape.last().filter(|n| n.as_constant().is_some()) else { return vec![] };
    let vector = root.with_shape(vec![width.clone()]);
    let mut forms = Vec::new();
    for affine in [2, 1, 0] {
        for kind in [NormKind::Layer, NormKind::Rms] {
            let operands = [vec![root.clone()], vec![vector.clone(); affine]].concat();
            let form = Form::new(operands, &[EPS], move |values| Norm { kind, eps: values[0] }.into());
            forms.push(form.with_exact(1..=affine));
        }
    }
    forms
}

/// Stands for the epsilon in the pattern.
const EPS: f64 = 0.012_695_312_5;
