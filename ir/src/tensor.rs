//! Tensors of the reference interpreter.

use crate::types::DType;

/// A concrete tensor in row-major order. Every element is held as `f64`, which represents all
/// element types exactly except integers beyond 2⁵³; the interpreter prefers one obvious
/// representation to speed.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type that the values stand for.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements, last axis fastest.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of given elements, rounded to the element type.
    ///
    /// # Panics
    /// When the number of elements is not the product of the shape.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Vec<f64>) -> Tensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements do not fill shape {shape:?}");
        Tensor { dtype, shape, data }
    }

    /// A tensor whose element at each multi-index is given by a function.
    pub fn from_fn(dtype: DType, shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Tensor {
        let mut data = Vec::with_capacity(shape.iter().product());
        for_each_index(shape, |index| data.push(f(index)));
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// A rank-0 tensor.
    pub fn scalar(dtype: DType, value: f64) -> Tensor {
        Tensor { dtype, shape: vec![], data: vec![value] }
    }

    /// Element at a multi-index.
    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[offset(&self.shape, index)]
    }

    /// Mutable element at a multi-index.
    pub fn at_mut(&mut self, index: &[usize]) -> &mut f64 {
        let offset = offset(&self.shape, index);
        &mut self.data[offset]
    }

    /// Element at an index of a tensor that this one broadcasts to (NumPy's rule).
    pub fn at_broadcast(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.shape.len();
        let own: Vec<usize> =
            self.shape.iter().zip(&index[lead..]).map(|(&n, &i)| if n == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    /// The elements with axis `axes[i]` as axis `i`, last axis fastest.
    pub fn in_order(&self, axes: &[usize]) -> Vec<f64> {
        if axes.is_sorted() {
            return self.data.clone();
        }
        let mut strides = vec![1; axes.len()];
        for axis in (1..axes.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = axes.iter().map(|&a| self.shape[a]).collect();
        let mut data = Vec::with_capacity(self.data.len());
        for_each_index(&shape, |index| {
            data.push(self.data[axes.iter().zip(index).map(|(&a, &i)| strides[a] * i).sum::<usize>()]);
        });
        data
    }

    /// The same values converted to another element type: floats are rounded to its precision,
    /// integers truncate toward zero and saturate, `bool` is `≠ 0`.
    pub fn cast(&self, dtype: DType) -> Tensor {
        Tensor { dtype, shape: self.shape.clone(), data: self.data.iter().map(|&x| round_to(dtype, x)).collect() }
    }
}

/// `x` as an element of the type holds it.
pub fn round_to(dtype: DType, x: f64) -> f64 {
    let integer = |low: f64, high: f64| if x.is_nan() { 0.0 } else { x.trunc().clamp(low, high) };
    match dtype {
        DType::F64 => x,
        DType::F32 => f64::from(x as f32),
        DType::F16 => half::f16::from_f64(x).to_f64(),
        DType::BF16 => half::bf16::from_f64(x).to_f64(),
        DType::I64 => integer(i64::MIN as f64, i64::MAX as f64),
        DType::I32 => integer(i32::MIN.into(), i32::MAX.into()),
        DType::I8 => integer(i8::MIN.into(), i8::MAX.into()),
        DType::U8 => integer(0.0, u8::MAX.into()),
        DType::Bool => f64::from(u8::from(x != 0.0)),
    }
}

/// Calls a function with every multi-index of a shape in row-major order.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(axis) = (0..shape.len()).rev().find(|&a| index[a] + 1 < shape[a]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

fn offset(shape: &[usize], index: &[usize]) -> usize {
    debug_assert!(shape.len() == index.len() && index.iter().zip(shape).all(|(i, n)| i < n));
    index.iter().zip(shape).fold(0, |o, (&i, &n)| o * n + i)
}
