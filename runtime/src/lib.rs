//! castiron's runtime: loads artifacts and executes them.
pub mod artifact;
pub mod cpu;
pub mod memory;
pub mod tensor;
pub mod program;
pub mod text;
pub mod weights;
