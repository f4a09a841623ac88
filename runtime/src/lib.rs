//! castiron's runtime: loads artifacts and executes them.
pub mod program;
pub mod weights;
