//! CPU executor.

pub mod attention;
pub mod convolution;
pub(crate) mod executor;
pub mod isa;
pub mod live;
pub mod matmul;
pub mod peaks;
pub mod pool;
pub mod recurrence;
pub mod row;
pub mod scratch;
pub mod simd;
pub mod strided;
