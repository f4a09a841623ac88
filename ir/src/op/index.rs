//! Data-dependent indexing: gather, scatter, top-k.

use super::attributes::{attributes, named_enum};
use super::{OpDef, TypeError, operands, require};
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, for_each_index};
use crate::types::{DType, Type};

/// Slices of a tensor at given indices along an axis.
///
/// `x: [B.., L.., n, R..]`, `indices: i32[B.., I..]` → `[B.., L.., I.., R..]`, where `B` are `batch`
/// leading axes that both share and `n` is axis `axis`: an embedding is `axis=0`, the last position
/// of each sequence `axis=1 batch=1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// Axis of `x` that is indexed.
    pub axis: usize,
    /// Number of shared leading axes, 0 when absent.
    pub batch: Option<usize>,
}
attributes!(Gather { axis: usize, batch: Option<usize> });

impl OpDef for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x, indices] = operands(types)?;
        let batch = self.batch.unwrap_or(0);
        require!(batch <= self.axis && self.axis < x.rank(), "axis {} of {x}, {batch} batch axes", self.axis);
        require!(matches!(indices.dtype, DType::I32 | DType::I64), "indices are {indices}, not integers");
        require!(batch <= indices.rank(), "{batch} batch axes of {indices}");
        require!(x.shape[..batch] == indices.shape[..batch], "{x} and {indices} differ in their batch axes");
        let shape = [&x.shape[..self.axis], &indices.shape[batch..], &x.shape[self.axis + 1..]].concat();
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, indices) = (operands[0], operands[1]);
        let (batch, extent) = (self.batch.unwrap_or(0), x.shape[self.axis]);
        check_indices(indices, extent)?;
        let inner = indices.shape.len() - batch;
        let shape = [&x.shape[..self.axis], &indices.shape[batch..], &x.shape[self.axis + 1..]].concat();
        Ok(vec![Tensor::from_fn(x.dtype, &shape, |at| {
            let picked = &at[self.axis..self.axis + inner];
            let i = indices.at(&[&at[..batch], picked].concat()) as usize;
            x.at(&[&at[..self.axis], &[i], &at[self.axis + inner..]].concat())
        })])
    }
}

fn check_indices(indices: &Tensor, extent: usize) -> Result<(), EvalError> {
    match indices.data.iter().find(|&&i| i < 0.0 || i >= extent as f64) {
        Some(&index) => Err(EvalError::Index { index: index as i64, extent }),
        None => Ok(()),
    }
}

named_enum! {
    /// What a scatter does with the element that is there.
    ScatterMode {
        /// Replaces it; the last of several writes stays.
        Set => "set",
        /// Adds to it.
        Add => "add",
    }
}

/// Inverse of [`Gather`] with `axis` 0: rows of `updates` are written to, or added at, rows of `x`.
///
/// `x: [n, R..]`, `indices: i32[I..]`, `updates: [I.., R..]` → `[n, R..]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter {
    /// Whether updates replace or add.
    pub mode: ScatterMode,
}
attributes!(Scatter { mode: ScatterMode });

impl OpDef for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x, indices, updates] = operands(types)?;
        require!(x.rank() > 0, "scatters into rows, not into a scalar");
        require!(matches!(indices.dtype, DType::I32 | DType::I64), "indices are {indices}, not integers");
        let expected = x.with_shape([&indices.shape[..], &x.shape[1..]].concat());
        require!(*updates == expected, "updates are {updates}, not {expected}");
        Ok(vec![x.clone()])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (mut out, indices, updates) = (operands[0].clone(), operands[1], operands[2]);
        check_indices(indices, out.shape[0])?;
        for_each_index(&updates.shape, |at| {
            let (picked, rest) = at.split_at(indices.shape.len());
            let target = [&[indices.at(picked) as usize], rest].concat();
            match self.mode {
                ScatterMode::Set => *out.at_mut(&target) = updates.at(at),
                ScatterMode::Add => *out.at_mut(&target) += updates.at(at),
            }
        });
        Ok(vec![out])
    }
}

/// The `k` largest elements of the last axis in descending order, and their indices. Equal elements
/// come in index order; `k` = 1 is arg-max, `k` = the extent a sort.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    /// How many.
    pub k: usize,
}
attributes!(TopK { k: usize });

impl OpDef for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let Some(last) = x.shape.last() else { return Err(TypeError("takes no scalar".into())) };
        require!(last.at_least(&self.k.into()) == Some(true), "cannot show that {x} has {} elements a row", self.k);
        let mut shape = x.shape.clone();
        shape[x.rank() - 1] = self.k.into();
        let values = x.with_shape(shape);
        let indices = values.with_dtype(DType::I32);
        Ok(vec![values, indices])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        let mut shape = x.shape.clone();
        let n = shape.pop().unwrap_or(1);
        shape.push(self.k);
        let (mut values, mut indices) = (Vec::new(), Vec::new());
        for row in x.data.chunks(n.max(1)) {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
            for &i in &order[..self.k] {
                values.push(row[i]);
                indices.push(i as f64);
            }
        }
        Ok(vec![Tensor::new(x.dtype, shape.clone(), values), Tensor::new(DType::I32, shape, indices)])
    }
}
