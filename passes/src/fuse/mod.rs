//! Fusion of plain ops into the fused ops that define them; [`crate::pattern`] does the matching.

pub mod attention;
pub mod norm;
pub mod recurrence;
pub mod rope;
pub mod softmax;
