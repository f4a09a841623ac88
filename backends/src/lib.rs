//! castiron's compiling half of the backends: clustered modules in, artifacts out.

pub mod lower;
pub mod weights;
