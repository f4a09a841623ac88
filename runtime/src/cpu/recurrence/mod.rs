//! Recurrences that have kernels: a thread takes some columns of a state, keeps them in its first cache, and
//! walks through time.
//!
//! ```text
//!   linear.rs      linear attention     selective.rs   selective scan
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
