//! Views of values: movement ops resolved to offsets and strides, without a kernel.

use castiron_ir::op::Window;
use castiron_ir::{DType, Dim, Type};
use castiron_runtime::program::view::{Place, View};

/// Where a value lies: `shape` elements at `offset + Σ strides·index` of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueView {
    /// Memory.
    pub place: Place,
    /// Element type.
    pub dtype: DType,
    /// First element.
    pub offset: Dim,
    /// Extent of each axis.
    pub shape: Vec<Dim>,
    /// Elements from one index to the next, for each axis.
    pub strides: Vec<Dim>,
}

/// Strides of a row-major tensor.
pub fn row_major(shape: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::from(1); shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].clone() * shape[axis + 1].clone();
    }
    strides
}

impl ValueView {
    /// A row-major tensor that fills a place.
    pub fn contiguous(place: Place, ty: &Type) -> ValueView {
        let strides = row_major(&ty.shape);
        ValueView { place, dtype: ty.dtype, offset: Dim::from(0), shape: ty.shape.clone(), strides }
    }

    /// The same place filled such that the transpose by `axes` is row-major.
    pub fn laid_out_for_transpose(mut self, axes: &[usize]) -> ValueView {
        for (stride, &axis) in row_major(&self.transpose(axes).shape).into_iter().zip(axes) {
            self.strides[axis] = stride;
        }
        self
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let one = Dim::from(1);
        let dense = row_major(&self.shape);
        self.shape.iter().zip(&self.strides).zip(&dense).all(|((n, s), d)| *n == one || s == d)
    }

    /// Axis `i` of the result is axis `axes[i]`.
    pub fn transpose(&self, axes: &[usize]) -> ValueView {
        let pick = |from: &[Dim]| axes.iter().map(|&a| from[a].clone()).collect();
        ValueView { shape: pick(&self.shape), strides: pick(&self.strides), ..self.clone() }
    }

    /// Elements `start, start + step, …` below `end` along an axis.
    pub fn slice(&self, axis: usize, start: &Dim, end: &Dim, step: i64) -> ValueView {
        let mut view = self.clone();
        view.offset = view.offset + self.strides[axis].clone() * start.clone();
        view.shape[axis] = (end.clone() - start.clone()).div_ceil(step);
        view.strides[axis] = view.strides[axis].clone() * step.into();
        view
    }

    /// Positions and taps of a window that moves along an axis; `shape` is the result's.
    pub fn window(&self, window: &Window, shape: &[Dim]) -> ValueView {
        let (axis, stride) = (window.axis, self.strides[window.axis].clone());
        let by = |step: Option<usize>| stride.clone() * step.unwrap_or(1).into();
        let mut strides = self.strides.clone();
        strides.splice(axis..=axis, [by(window.stride), by(window.dilation)]);
        ValueView { shape: shape.to_vec(), strides, ..self.clone() }
    }

    /// Repeats axes of extent 1 and new leading axes up to `to`.
    pub fn broadcast(&self, to: &[Dim]) -> ValueView {
        ValueView { shape: to.to_vec(), strides: self.strides_over(to), ..self.clone() }
    }

    /// Strides over an iteration space that the value's shape broadcasts to.
    pub fn strides_over(&self, space: &[Dim]) -> Vec<Dim> {
        let lead = space.len() - self.shape.len().min(space.len());
        let one = Dim::from(1);
        let stride = |axis: usize| match axis.checked_sub(lead) {
            Some(own) if self.shape[own] != one => self.strides[own].clone(),
            _ => Dim::from(0),
        };
        (0..space.len()).map(stride).collect()
    }

    /// The value as a kernel operand over its own axes.
    pub fn over_own_axes(&self) -> View {
        self.over(self.strides.clone())
    }

    /// The value as a kernel operand with given strides over the iteration space.
    pub fn over(&self, strides: Vec<Dim>) -> View {
        View { place: self.place.clone(), dtype: self.dtype, offset: self.offset.clone(), strides, indirect: None }
    }

    /// The elements under another shape, if strides can express it: axes are merged where they lie
    /// one in another, and split.
    pub fn reshape(&self, to: &[Dim]) -> Option<ValueView> {
        let one = Dim::from(1);
        if self.is_contiguous() {
            let stride = |(stride, n): (Dim, &Dim)| if *n == one { Dim::from(0) } else { stride };
            let strides = row_major(to).into_iter().zip(to).map(stride).collect();
            return Some(ValueView { shape: to.to_vec(), strides, ..self.clone() });
        }
        let source: Vec<usize> = (0..self.shape.len()).filter(|&a| self.shape[a] != one).collect();
        let target: Vec<usize> = (0..to.len()).filter(|&a| to[a] != one).collect();
        let mut strides = vec![Dim::from(0); to.len()];
        let (mut i, mut j) = (0, 0);
        while i < source.len() && j < target.len() {
            let first_target = j;
            let mut from = self.shape[source[i]].clone();
            let mut into = to[target[j]].clone();
            while from != into {
                if from.divide(&into).is_some() && j + 1 < target.len() {
                    j += 1;
                    into = into * to[target[j]].clone();
                } else {
                    let (outer, inner) = (source[i], *source.get(i + 1)?);
                    let nested = self.strides[inner].clone() * self.shape[inner].clone();
                    if self.strides[outer] != nested {
                        return None;
                    }
                    i += 1;
                    from = from * self.shape[inner].clone();
                }
            }
            let mut stride = self.strides[source[i]].clone();
            for &axis in target[first_target..=j].iter().rev() {
                strides[axis] = stride.clone();
                stride = stride * to[axis].clone();
            }
            (i, j) = (i + 1, j + 1);
        }
        (i == source.len() && j == target.len()).then(|| ValueView { shape: to.to_vec(), strides, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[Dim]) -> ValueView {
        ValueView::contiguous(Place::Buffer(0), &Type::f32(shape.iter()))
    }

    #[test]
    fn reshape_splits_merges_and_refuses() {
        let (b, s) = (Dim::symbol("b"), Dim::symbol("s"));
        let merged = view(&[b.clone(), s.clone(), 960.into()]);
        let q = merged.slice(2, &0.into(), &576.into(), 1);
        let heads = q.reshape(&[b.clone(), s.clone(), 3.into(), 3.into(), 64.into()]).unwrap();
        assert_eq!(heads.strides, [Dim::from(960) * s.clone(), 960.into(), 192.into(), 64.into(), 1.into()]);
        assert!(q.reshape(&[b.clone() * s.clone() * 576.into()]).is_none());
        let rows = q.reshape(&[b.clone() * s.clone(), 576.into()]).unwrap();
        assert_eq!(rows.strides, [960.into(), Dim::from(1)]);
        assert!(heads.transpose(&[0, 2, 3, 1, 4]).reshape(&[b * s, 576.into()]).is_none());
    }

    #[test]
    fn windows_overlap() {
        let (n, positions) = (Dim::symbol("n"), Dim::symbol("n") - 4.into());
        let window = Window { axis: 1, taps: 3, stride: None, dilation: Some(2) };
        let seen = view(&[2.into(), n.clone()]).window(&window, &[2.into(), positions.clone(), 3.into()]);
        assert_eq!(seen.strides, [n, 1.into(), 2.into()]);
        assert!(seen.reshape(&[2.into(), positions * 3.into()]).is_none());
    }

    #[test]
    fn a_transposed_layout_makes_the_transpose_contiguous() {
        let ty = Type::f32([Dim::symbol("b"), 3.into(), Dim::symbol("s"), 4.into()]);
        let view = ValueView::contiguous(Place::Buffer(0), &ty).laid_out_for_transpose(&[0, 2, 1, 3]);
        assert!(view.transpose(&[0, 2, 1, 3]).is_contiguous());
        assert!(!view.is_contiguous());
    }
}
