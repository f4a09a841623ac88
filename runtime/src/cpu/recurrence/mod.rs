//! Recurrences that have kernels: a thread takes some columns of a state, keeps them in its first cache, and
//! walks through time.
//!
//! ```text
//!   mod.rs         operands; how columns are shared     linear.rs     linear attention
//!                                                       selective.rs  selective scan
//! ```
//!
//! Nothing is approximated and no decay is divided by, as the chunked forms do: products of decays underflow
//! where they are strong. What these forms are for, few passes over the state, comes from tiles of time: linear
//! attention applies several tokens to a row of the state while that is in registers.
#![allow(unsafe_code)] // Operands are pointers with strides.

mod linear;
mod selective;

pub use linear::LinearAttention;
pub use selective::SelectiveScan;

/// An operand: its first element, and how many elements apart the indices of each axis are.
#[derive(Clone, Copy, Debug)]
pub struct Strided<P, const N: usize> {
    /// The first element.
    pub at: P,
    /// Elements from one index to the next; 0 repeats.
    pub strides: [usize; N],
}

impl<const N: usize> Strided<*const f32, N> {
    fn element(&self, index: [usize; N]) -> *const f32 {
        self.at.wrapping_add(self.strides.iter().zip(index).map(|(stride, i)| stride * i).sum())
    }
}

impl<const N: usize> Strided<*mut f32, N> {
    fn element(&self, index: [usize; N]) -> *mut f32 {
        self.at.wrapping_add(self.strides.iter().zip(index).map(|(stride, i)| stride * i).sum())
    }
}
