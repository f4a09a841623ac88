//! castiron's runtime: loads artifacts and executes them.
pub mod artifact;
pub mod cpu;
pub mod program;
pub mod weights;
