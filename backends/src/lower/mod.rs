//! Lowering of graphs to kernel programs.

pub mod view;
