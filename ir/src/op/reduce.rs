//! Reductions over axes.

use super::attributes::{attributes, named_enum};
use super::{OpDef, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, for_each_index};
use crate::types::Type;

named_enum! {
    /// Associative operation of a reduction.
    ReduceKind {
        /// Σ x
        Sum => "sum",
        /// Π x
        Product => "product",
        /// max x; -∞ over nothing.
        Max => "max",
        /// min x; +∞ over nothing.
        Min => "min",
    }
}

/// Combines elements along axes. Reduced axes stay with extent 1, so that the result broadcasts
/// against the operand; a reshape drops them.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// The operation.
    pub kind: ReduceKind,
    /// Axes to reduce, ascending.
    pub axes: Vec<usize>,
}
attributes!(Reduce { kind: ReduceKind, axes: Vec<usize> });

impl OpDef for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let ascending = self.axes.is_sorted_by(|a, b| a < b);
        require!(ascending && self.axes.iter().all(|&a| a < x.rank()), "axes {:?} of {x}", self.axes);
        let mut shape = x.shape.clone();
        for &a in &self.axes {
            shape[a] = Dim::from(1);
        }
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        let mut shape = x.shape.clone();
        for &a in &self.axes {
            shape[a] = 1;
        }
        let (identity, combine): (f64, fn(f64, f64) -> f64) = match self.kind {
            ReduceKind::Sum => (0.0, |a, b| a + b),
            ReduceKind::Product => (1.0, |a, b| a * b),
            ReduceKind::Max => (f64::NEG_INFINITY, f64::max),
            ReduceKind::Min => (f64::INFINITY, f64::min),
        };
        let mut out = Tensor::from_fn(x.dtype, &shape, |_| identity);
        for_each_index(&x.shape, |index| {
            let mut target = index.to_vec();
            for &a in &self.axes {
                target[a] = 0;
            }
            let slot = out.at_mut(&target);
            *slot = combine(*slot, x.at(index));
        });
        Ok(vec![out])
    }
}
