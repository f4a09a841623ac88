//! Movement: the same elements in another arrangement.

use super::attributes::attributes;
use super::{OpDef, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::types::Type;

/// Shape that several operands broadcast to by NumPy's rule.
///
/// # Errors
/// Extents that differ, or cannot be shown to be equal, where neither is 1.
pub fn broadcast_shapes(types: &[&Type]) -> Result<Vec<Dim>, TypeError> {
    let rank = types.iter().map(|t| t.rank()).max().unwrap_or(0);
    let one = Dim::from(1);
    let mut shape = vec![one.clone(); rank];
    for ty in types {
        let lead = rank - ty.rank();
        for (axis, dim) in ty.shape.iter().enumerate().filter(|(_, d)| **d != one) {
            let slot = &mut shape[lead + axis];
            require!(*slot == one || slot == dim, "extents {slot} and {dim} of axis {} do not broadcast", lead + axis);
            *slot = dim.clone();
        }
    }
    Ok(shape)
}

/// The elements in row-major order under another shape: `reshape %x to=[b,s,9,64]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The new shape, with as many elements.
    pub to: Vec<Dim>,
}
attributes!(Reshape { to: Vec<Dim> });

impl OpDef for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let (from, to) = (x.elements(), Dim::product(&self.to));
        require!(from == to, "{x} has {from} elements, the new shape {to}");
        Ok(vec![x.with_shape(self.to.clone())])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.dims(&self.to)?;
        Ok(vec![Tensor::new(operands[0].dtype, shape, operands[0].data.clone())])
    }
}

/// Axes in another order: axis `i` of the result is axis `axes[i]` of the operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// A permutation of the axes.
    pub axes: Vec<usize>,
}
attributes!(Transpose { axes: Vec<usize> });

impl OpDef for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        require!(sorted.iter().copied().eq(0..x.rank()), "{:?} is not a permutation of the axes of {x}", self.axes);
        Ok(vec![x.with_shape(self.axes.iter().map(|&a| x.shape[a].clone()).collect())])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        let shape: Vec<usize> = self.axes.iter().map(|&a| x.shape[a]).collect();
        let mut source = vec![0; shape.len()];
        Ok(vec![Tensor::from_fn(x.dtype, &shape, |index| {
            for (&a, &i) in self.axes.iter().zip(index) {
                source[a] = i;
            }
            x.at(&source)
        })])
    }
}

/// Repeats along axes of extent 1 and along new leading axes: `broadcast %w to=[b,s,576]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    /// The result's shape.
    pub to: Vec<Dim>,
}
attributes!(Broadcast { to: Vec<Dim> });

impl OpDef for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let target = x.with_shape(self.to.clone());
        require!(broadcast_shapes(&[x, &target])? == self.to, "{x} does not broadcast to {target}");
        Ok(vec![target])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.dims(&self.to)?;
        Ok(vec![Tensor::from_fn(operands[0].dtype, &shape, |index| operands[0].at_broadcast(index))])
    }
}

/// Elements `start, start + step, …` below `end` along an axis; a negative step is not allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// First element.
    pub start: Dim,
    /// One past the last element.
    pub end: Dim,
    /// Distance between elements, 1 when absent.
    pub step: Option<usize>,
}
attributes!(Slice { axis: usize, start: Dim, end: Dim, step: Option<usize> });

impl OpDef for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        require!(self.axis < x.rank(), "axis {} of {x}", self.axis);
        let ordered = self.start.at_least(&Dim::from(0)) == Some(true)
            && self.end.at_least(&self.start) == Some(true)
            && x.shape[self.axis].at_least(&self.end) == Some(true);
        let (start, end) = (&self.start, &self.end);
        require!(ordered, "cannot show that {start}..{end} lies within axis {} of {x}", self.axis);
        let step = i64::try_from(self.step.unwrap_or(1)).unwrap_or(0);
        require!(step > 0, "the step is positive");
        let mut shape = x.shape.clone();
        shape[self.axis] = (end.clone() - start.clone()).div_ceil(step);
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (start, end, step) = (frame.dim(&self.start)?, frame.dim(&self.end)?, self.step.unwrap_or(1));
        let mut shape = operands[0].shape.clone();
        shape[self.axis] = (end - start).div_ceil(step);
        let mut source = vec![0; shape.len()];
        Ok(vec![Tensor::from_fn(operands[0].dtype, &shape, |index| {
            source.copy_from_slice(index);
            source[self.axis] = start + index[self.axis] * step;
            operands[0].at(&source)
        })])
    }
}

/// Positions of a window of `taps` elements, `dilation` apart, that moves by `stride` over `extent`
/// elements; `None` where it fits nowhere.
pub fn window_positions(extent: &Dim, taps: usize, stride: usize, dilation: usize) -> Option<Dim> {
    let stride = i64::try_from(stride).ok().filter(|&s| s > 0)?;
    let reach = Dim::from(dilation) * (Dim::from(taps.checked_sub(1)?)) + Dim::from(1);
    let room = extent.clone() - reach;
    (room.at_least(&Dim::from(0)) != Some(false)).then(|| room.div_floor(stride) + Dim::from(1))
}

/// The elements that a moving window sees: an axis of extent `n` becomes one of positions and one of
/// taps, and element `(p, t)` is element `p·stride + t·dilation`.
///
/// `x: [.., n, ..]` → `[.., (n - dilation·(taps-1) - 1) / stride + 1, taps, ..]`. A view: nothing is moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The axis.
    pub axis: usize,
    /// Elements that the window sees, at least one.
    pub taps: usize,
    /// Elements from one position to the next, 1 when absent.
    pub stride: Option<usize>,
    /// Elements from one tap to the next, 1 when absent.
    pub dilation: Option<usize>,
}
attributes!(Window { axis: usize, taps: usize, stride: Option<usize>, dilation: Option<usize> });

impl Window {
    fn positions(&self, extent: &Dim) -> Option<Dim> {
        window_positions(extent, self.taps, self.stride.unwrap_or(1), self.dilation.unwrap_or(1))
    }
}

impl OpDef for Window {
    fn name(&self) -> &'static str {
        "window"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        require!(self.axis < x.rank(), "axis {} of {x}", self.axis);
        require!(self.taps > 0 && self.dilation != Some(0) && self.stride != Some(0), "taps and steps are positive");
        let positions = self.positions(&x.shape[self.axis]);
        let positions = positions.ok_or_else(|| TypeError(format!("{} taps do not fit into {x}", self.taps)))?;
        let mut shape = x.shape.clone();
        shape.splice(self.axis..=self.axis, [positions, self.taps.into()]);
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        let positions = self.positions(&x.shape[self.axis].into()).and_then(|d| d.as_constant());
        let positions = positions.and_then(|n| usize::try_from(n).ok()).ok_or(EvalError::EmptyWindow)?;
        let mut shape = x.shape.clone();
        shape.splice(self.axis..=self.axis, [positions, self.taps]);
        Ok(vec![Tensor::from_fn(x.dtype, &shape, |index| {
            let (position, tap) = (index[self.axis], index[self.axis + 1]);
            let at = position * self.stride.unwrap_or(1) + tap * self.dilation.unwrap_or(1);
            x.at(&[&index[..self.axis], &[at], &index[self.axis + 2..]].concat())
        })])
    }
}

/// Adds elements of one value before and after along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// The axis.
    pub axis: usize,
    /// How many before.
    pub before: Dim,
    /// How many after.
    pub after: Dim,
    /// Their value.
    pub value: f64,
}
attributes!(Pad { axis: usize, before: Dim, after: Dim, value: f64 });

impl OpDef for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        require!(self.axis < x.rank(), "axis {} of {x}", self.axis);
        let zero = Dim::from(0);
        let positive = self.before.at_least(&zero) == Some(true) && self.after.at_least(&zero) == Some(true);
        require!(positive, "cannot show that {} and {} are not negative", self.before, self.after);
        let mut shape = x.shape.clone();
        shape[self.axis] = shape[self.axis].clone() + self.before.clone() + self.after.clone();
        Ok(vec![x.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        let (before, after) = (frame.dim(&self.before)?, frame.dim(&self.after)?);
        let mut shape = x.shape.clone();
        shape[self.axis] += before + after;
        Ok(vec![Tensor::from_fn(x.dtype, &shape, |index| {
            let mut source = index.to_vec();
            match index[self.axis].checked_sub(before).filter(|&i| i < x.shape[self.axis]) {
                Some(i) => {
                    source[self.axis] = i;
                    x.at(&source)
                }
                None => self.value,
            }
        })])
    }
}

/// Operands one after another along an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis; the other extents are equal.
    pub axis: usize,
}
attributes!(Concat { axis: usize });

impl OpDef for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [first, rest @ ..] = types else { return Err(TypeError("takes at least one operand".into())) };
        require!(self.axis < first.rank(), "axis {} of {first}", self.axis);
        let mut shape = first.shape.clone();
        for ty in rest {
            let mut aligned = ty.clone();
            require!(ty.rank() == first.rank(), "{first} and {ty} differ in rank");
            aligned.shape[self.axis] = first.shape[self.axis].clone();
            require!(aligned == *first, "{first} and {ty} differ outside axis {}", self.axis);
            shape[self.axis] = shape[self.axis].clone() + ty.shape[self.axis].clone();
        }
        Ok(vec![first.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let mut shape = operands[0].shape.clone();
        shape[self.axis] = operands.iter().map(|t| t.shape[self.axis]).sum();
        Ok(vec![Tensor::from_fn(operands[0].dtype, &shape, |index| {
            let mut source = index.to_vec();
            let mut part = 0;
            while source[self.axis] >= operands[part].shape[self.axis] {
                source[self.axis] -= operands[part].shape[self.axis];
                part += 1;
            }
            operands[part].at(&source)
        })])
    }
}
