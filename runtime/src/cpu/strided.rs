//! Operands of kernels: pointers with strides.

/// An operand: its first element, and how many elements apart the indices of each axis are.
#[derive(Clone, Copy, Debug)]
pub struct Strided<P, const N: usize> {
    /// The first element.
    pub at: P,
    /// Elements from one index to the next; 0 repeats.
    pub strides: [usize; N],
}

impl<P, const N: usize> Strided<P, N> {
    /// Elements from the first to that of an index.
    pub(super) fn offset(&self, index: [usize; N]) -> usize {
        self.strides.iter().zip(index).map(|(stride, i)| stride * i).sum()
    }
}

impl<T, const N: usize> Strided<*const T, N> {
    /// Where the element of an index lies.
    pub(super) fn element(&self, index: [usize; N]) -> *const T {
        self.at.wrapping_add(self.offset(index))
    }
}

impl<T, const N: usize> Strided<*mut T, N> {
    /// Where the element of an index lies.
    pub(super) fn element(&self, index: [usize; N]) -> *mut T {
        self.at.wrapping_add(self.offset(index))
    }
}
