//! Tensors at the edge of the runtime: what callers pass in and get out.

use castiron_ir::DType;

use crate::memory::{AlignedBytes, OutOfMemory};

/// A row-major tensor that someone else owns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorRef<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
}

/// A row-major tensor.
#[derive(Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: AlignedBytes,
}

/// Why bytes are no tensor, or not of the type that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes is not that of the shape.
    #[error("a tensor {dtype}{shape:?} does not take {bytes} bytes")]
    Size {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Vec<usize>,
        /// Bytes that were given.
        bytes: usize,
    },
    /// The first element is at no multiple of its size.
    #[error("the elements of a tensor of {0} are not aligned")]
    Alignment(DType),
    /// Another element type than the one that is asked for.
    #[error("the tensor is of {found}, not of {asked}")]
    DType {
        /// What it is.
        found: DType,
        /// What it should be.
        asked: DType,
    },
}

/// Bytes of a tensor, if that is a number.
pub fn tensor_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |bytes, &extent| bytes.checked_mul(extent))
}

impl<'a> TensorRef<'a> {
    /// Bytes in the machine's order.
    ///
    /// # Errors
    /// Another number of bytes than the shape takes, or elements that are not aligned.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Result<TensorRef<'a>, TensorError> {
        if tensor_bytes(dtype, shape) != Some(bytes.len()) {
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), bytes: bytes.len() });
        }
        if !bytes.as_ptr().addr().is_multiple_of(dtype.size()) {
            return Err(TensorError::Alignment(dtype));
        }
        Ok(TensorRef { dtype, shape, bytes })
    }

    /// A tensor of f32.
    ///
    /// # Errors
    /// Another number of elements than the shape has.
    pub fn f32(shape: &'a [usize], data: &'a [f32]) -> Result<TensorRef<'a>, TensorError> {
        TensorRef::new(DType::F32, shape, bytemuck::cast_slice(data))
    }

    /// A tensor of i32.
    ///
    /// # Errors
    /// Another number of elements than the shape has.
    pub fn i32(shape: &'a [usize], data: &'a [i32]) -> Result<TensorRef<'a>, TensorError> {
        TensorRef::new(DType::I32, shape, bytemuck::cast_slice(data))
    }

    /// A tensor of truth values.
    ///
    /// # Errors
    /// Another number of elements than the shape has.
    pub fn bool(shape: &'a [usize], data: &'a [bool]) -> Result<TensorRef<'a>, TensorError> {
        TensorRef::new(DType::Bool, shape, bytemuck::cast_slice(data))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements of a tensor of f32.
    ///
    /// # Errors
    /// Another element type.
    pub fn as_f32(&self) -> Result<&'a [f32], TensorError> {
        self.require(DType::F32).map(bytemuck::cast_slice)
    }

    /// The elements of a tensor of i32.
    ///
    /// # Errors
    /// Another element type.
    pub fn as_i32(&self) -> Result<&'a [i32], TensorError> {
        self.require(DType::I32).map(bytemuck::cast_slice)
    }

    /// The elements of a tensor of truth values, each 0 or 1.
    ///
    /// # Errors
    /// Another element type.
    pub fn as_bool(&self) -> Result<&'a [u8], TensorError> {
        self.require(DType::Bool)
    }

    /// A copy.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn to_owned(&self) -> Result<Tensor, OutOfMemory> {
        Ok(Tensor { dtype: self.dtype, shape: self.shape.to_vec(), bytes: AlignedBytes::copy_of(self.bytes)? })
    }

    fn require(&self, asked: DType) -> Result<&'a [u8], TensorError> {
        if self.dtype == asked { Ok(self.bytes) } else { Err(TensorError::DType { found: self.dtype, asked }) }
    }
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, OutOfMemory> {
        let bytes = tensor_bytes(dtype, shape).ok_or(OutOfMemory(usize::MAX))?;
        Ok(Tensor { dtype, shape: shape.to_vec(), bytes: AlignedBytes::zeroed(bytes)? })
    }

    /// The tensor, borrowed.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { dtype: self.dtype, shape: &self.shape, bytes: &self.bytes }
    }

    pub(crate) fn pointer(&mut self) -> *mut u8 {
        self.bytes.pointer()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_types_are_checked() {
        let tensor = TensorRef::f32(&[2, 1], &[1.0, 2.0]).unwrap();
        assert_eq!(tensor.as_f32().unwrap(), [1.0, 2.0]);
        assert_eq!(tensor.as_i32(), Err(TensorError::DType { found: DType::F32, asked: DType::I32 }));
        assert!(matches!(TensorRef::i32(&[3], &[1]), Err(TensorError::Size { .. })));
        assert!(matches!(TensorRef::i32(&[usize::MAX, 2], &[1]), Err(TensorError::Size { .. })));
        let owned = tensor.to_owned().unwrap();
        assert_eq!(owned.view(), tensor);
        assert_eq!(
            TensorRef::new(DType::F32, &[1], &owned.view().bytes()[1..5]),
            Err(TensorError::Alignment(DType::F32))
        );
        assert_eq!(Tensor::zeros(DType::Bool, &[3]).unwrap().view().as_bool().unwrap(), [0, 0, 0]);
    }
}
