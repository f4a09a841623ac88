//! Contractions: tensor products summed over shared axes, and convolution.

use super::attributes::attributes;
use super::movement::window_positions;
use super::{OpDef, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, for_each_index};
use crate::types::Type;

/// Contraction of two tensors over pairs of axes, batched over others (XLA's `dot_general`).
///
/// Pairs are `(axis of lhs, axis of rhs)`. The result has the batch axes in the given order, then
/// the free axes of the left, then those of the right operand. Accumulates in f32 or wider.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Axes that both share and the result keeps.
    pub batch: Vec<(usize, usize)>,
    /// Axes that are summed over.
    pub contract: Vec<(usize, usize)>,
}
attributes!(Dot { batch: Vec<(usize, usize)>, contract: Vec<(usize, usize)> });

impl Dot {
    /// `x · Wᵀ` of an activation `[.., k]` of that rank with a weight `[n, k]`.
    pub fn linear(rank: usize) -> Dot {
        Dot { batch: vec![], contract: vec![(rank - 1, 1)] }
    }

    /// Free axes of the left operand of that rank.
    pub fn free_lhs(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|&a| self.batch.iter().chain(&self.contract).all(|p| p.0 != a)).collect()
    }

    /// Free axes of the right operand of that rank.
    pub fn free_rhs(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|&a| self.batch.iter().chain(&self.contract).all(|p| p.1 != a)).collect()
    }
}

/// The axes of a [`Dot`] of rows with matrices that were gathered for them; see [`Dot::over_gathered`].
///
/// The rows of the result are those of `batch`, then of `free`, then of `rest`; then comes its column.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenAxes {
    /// Axes that the rows have in common with the indices: `(axis of the rows, axis of the indices)`.
    pub batch: Vec<(usize, usize)>,
    /// Other axes of the rows: along them the matrix is the same.
    pub free: Vec<usize>,
    /// Other axes of the indices: along them the row is the same.
    pub rest: Vec<usize>,
    /// The axis of the rows that is summed over.
    pub summed: usize,
    /// Whether the matrices are `[k, n]` instead of `[n, k]`.
    pub transposed: bool,
}

impl Dot {
    /// The axes, if operand `side` (0 or 1) is a gather of matrices along the first axis of a stack
    /// `[count, .., ..]` with indices of rank `indices`, the other one has rank `rows`, and the product is one
    /// matrix for each row, its columns last.
    pub fn over_gathered(&self, side: usize, rows: usize, indices: usize) -> Option<ChosenAxes> {
        let of = |pair: &(usize, usize)| if side == 0 { (pair.1, pair.0) } else { *pair };
        let [contract] = self.contract.as_slice() else { return None };
        let (summed, matrix_axis) = of(contract);
        let batch: Vec<(usize, usize)> = self.batch.iter().map(of).collect();
        let is_taken = |axis: &usize| *axis == summed || batch.iter().any(|pair| pair.0 == *axis);
        let free: Vec<usize> = (0..rows).filter(|axis| !is_taken(axis)).collect();
        let rest: Vec<usize> = (0..indices).filter(|axis| batch.iter().all(|pair| pair.1 != *axis)).collect();
        let is_fit = matrix_axis >= indices && batch.iter().all(|pair| pair.1 < indices);
        let is_last = side == 1 || free.is_empty();
        (is_fit && is_last).then_some(ChosenAxes { batch, free, rest, summed, transposed: matrix_axis == indices })
    }
}

impl OpDef for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [lhs, rhs] = operands(types)?;
        require!(lhs.dtype == rhs.dtype && lhs.dtype.is_float(), "contracts {lhs} with {rhs}");
        let pairs = || self.batch.iter().chain(&self.contract);
        for (i, &(l, r)) in pairs().enumerate() {
            require!(l < lhs.rank() && r < rhs.rank(), "axes ({l},{r}) of {lhs} and {rhs}");
            require!(pairs().take(i).all(|&(pl, pr)| pl != l && pr != r), "axis of pair ({l},{r}) occurs twice");
            require!(lhs.shape[l] == rhs.shape[r], "axes ({l},{r}) of {lhs} and {rhs} differ in extent");
        }
        let batch = self.batch.iter().map(|p| lhs.shape[p.0].clone());
        let left = self.free_lhs(lhs.rank()).into_iter().map(|a| lhs.shape[a].clone());
        let right = self.free_rhs(rhs.rank()).into_iter().map(|a| rhs.shape[a].clone());
        Ok(vec![lhs.with_shape(batch.chain(left).chain(right).collect())])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (lhs, rhs) = (operands[0], operands[1]);
        let (free_l, free_r) = (self.free_lhs(lhs.shape.len()), self.free_rhs(rhs.shape.len()));
        let (lefts, rights): (Vec<usize>, Vec<usize>) = self.batch.iter().copied().unzip();
        let (left_sums, right_sums): (Vec<usize>, Vec<usize>) = self.contract.iter().copied().unzip();
        let extents = |tensor: &Tensor, axes: &[usize]| axes.iter().map(|&a| tensor.shape[a]).collect::<Vec<_>>();
        let shape = [extents(lhs, &lefts), extents(lhs, &free_l), extents(rhs, &free_r)].concat();
        let product = |shape: Vec<usize>| shape.into_iter().product::<usize>();
        let (m, n) = (product(extents(lhs, &free_l)), product(extents(rhs, &free_r)));
        let (batch, k) = (product(extents(lhs, &lefts)), product(extents(lhs, &left_sums)));
        let l = lhs.in_order(&[lefts, free_l, left_sums].concat());
        let r = rhs.in_order(&[rights, free_r, right_sums].concat());
        let mut data = Vec::with_capacity(product(shape.clone()));
        for i in 0..batch * m {
            let others = &r[i / m * n * k..][..n * k];
            let left = &l[i * k..][..k];
            data.extend((0..n).map(|j| inner_product(left, &others[j * k..][..k])));
        }
        Ok(vec![Tensor::new(lhs.dtype, shape, data)])
    }
}

/// In partial sums, so that they go on side by side.
fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks(LANES), b.chunks(LANES));
    a.zip(b).for_each(|(a, b)| a.iter().zip(b).zip(&mut sums).for_each(|((a, b), sum)| *sum += a * b));
    sums.iter().sum()
}

/// Convolution over any number of spatial axes (cross-correlation, as in deep learning).
///
/// `x: [n, c, spatial..]`, `w: [o, c/groups, kernel..]` → `[n, o, out..]` with
/// `out = (x + before + after - dilation·(kernel-1) - 1) / stride + 1`. A transposed convolution
/// sets `expand`: that many minus one zeros stand between elements of `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Step of the window, per spatial axis.
    pub stride: Vec<usize>,
    /// Zeros before and after, per spatial axis.
    pub padding: Vec<(usize, usize)>,
    /// Distance between taps, per spatial axis; 1 when empty.
    pub dilation: Vec<usize>,
    /// Distance between elements of the input, per spatial axis; 1 when empty.
    pub expand: Vec<usize>,
    /// Channel groups; 1 when absent.
    pub groups: Option<usize>,
}
attributes!(Conv {
    stride: Vec<usize>,
    padding: Vec<(usize, usize)>,
    dilation: Vec<usize>,
    expand: Vec<usize>,
    groups: Option<usize>,
});

impl Conv {
    /// Distance between taps along a spatial axis.
    pub fn dilation(&self, axis: usize) -> usize {
        self.dilation.get(axis).copied().unwrap_or(1)
    }
    /// Distance between elements of the input along a spatial axis.
    pub fn expand(&self, axis: usize) -> usize {
        self.expand.get(axis).copied().unwrap_or(1)
    }
    /// Extent of the output along a spatial axis; `None` when the window does not fit.
    fn output_extent(&self, axis: usize, input: &Dim, kernel: usize) -> Option<Dim> {
        let (before, after) = self.padding[axis];
        let expanded = (input.clone() - Dim::from(1)) * self.expand(axis).into() + Dim::from(1);
        let padded = expanded + before.into() + after.into();
        window_positions(&padded, kernel, self.stride[axis], self.dilation(axis))
    }
}

impl OpDef for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x, w] = operands(types)?;
        let spatial = self.stride.len();
        require!(x.dtype == w.dtype && x.dtype.is_float(), "convolves {x} with {w}");
        require!(x.rank() == spatial + 2 && w.rank() == x.rank(), "{spatial} spatial axes for {x} and {w}");
        let fits = |list: &[usize]| list.is_empty() || (list.len() == spatial && list.iter().all(|&d| d > 0));
        require!(self.padding.len() == spatial, "one padding pair for each of {spatial} axes");
        require!(
            fits(&self.dilation) && fits(&self.expand),
            "one positive dilation and expansion for each of {spatial} axes"
        );
        let groups = Dim::from(self.groups.unwrap_or(1));
        require!(w.shape[1].clone() * groups.clone() == x.shape[1], "{groups} groups of {w} for {x}");
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        for a in 0..spatial {
            let kernel = w.shape[a + 2].as_constant().and_then(|k| usize::try_from(k).ok()).filter(|&k| k > 0);
            let kernel = kernel.ok_or_else(|| TypeError(format!("kernel {w} has no constant extent")))?;
            let extent = self.output_extent(a, &x.shape[a + 2], kernel);
            shape.push(extent.ok_or_else(|| TypeError(format!("window of {w} does not fit into {x}")))?);
        }
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (x, w) = (operands[0], operands[1]);
        let spatial = self.stride.len();
        let mut shape = vec![x.shape[0], w.shape[0]];
        for a in 0..spatial {
            let extent = self.output_extent(a, &Dim::from(x.shape[a + 2]), w.shape[a + 2]);
            let extent = extent.and_then(|d| d.as_constant()).and_then(|n| usize::try_from(n).ok());
            shape.push(extent.ok_or(EvalError::EmptyWindow)?);
        }
        let per_group_out = w.shape[0] / self.groups.unwrap_or(1);
        Ok(vec![Tensor::from_fn(x.dtype, &shape, |out| {
            let first_channel = out[1] / per_group_out * w.shape[1];
            let mut sum = 0.0;
            for_each_index(&w.shape[1..], |tap| {
                let source = (0..spatial).map(|a| {
                    let at = out[a + 2] * self.stride[a] + tap[a + 1] * self.dilation(a);
                    let at = at.checked_sub(self.padding[a].0)?;
                    (at % self.expand(a) == 0).then_some(at / self.expand(a)).filter(|&i| i < x.shape[a + 2])
                });
                if let Some(source) = source.collect::<Option<Vec<usize>>>() {
                    let x_index = [&[out[0], first_channel + tap[0]], source.as_slice()].concat();
                    sum += x.at(&x_index) * w.at(&[&[out[1]], tap].concat());
                }
            });
            sum
        })])
    }
}
