//! Softmax over the last axis: `e / Σe` with `e = exp(x - max x)` → `softmax x`.
//! Two passes over a row instead of five over the tensor.

use castiron_ir::op::{Binary, BinaryOp, Op, Softmax};
use castiron_ir::{BuildError, Region};

use crate::pattern::{Form, fuse};

/// Fuses softmax.
///
/// # Errors
/// As [`fuse`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    fuse(region, |chains, node| match node.op {
        Op::Binary(Binary(BinaryOp::Div)) => {
            vec![Form::new(vec![chains.region.type_of(node.results[0]).clone()], &[], |_| Softmax {}.into())]
        }
        _ => vec![],
    })
}
