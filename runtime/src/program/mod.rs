//! Kernel programs: what a compiled artifact tells the runtime to do.
pub mod row;
