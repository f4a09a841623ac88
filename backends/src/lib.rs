//! castiron's compiling half of the backends: clustered modules in, artifacts out.

pub mod artifact;
pub mod lower;
pub mod weights;
pub mod wgsl;
