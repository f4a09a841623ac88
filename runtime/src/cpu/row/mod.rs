//! Execution of row programs: generated AVX2 code where the machine has it, portable Rust elsewhere.

mod cache;
mod function;
#[cfg(all(target_arch = "x86_64", unix))]
mod jit;
mod portable;
#[cfg(test)]
mod tests;

pub use cache::RowCache;
pub use function::{CompileError, RowFunction};
