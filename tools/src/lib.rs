//! castiron's command line as a library: the compiler's pipeline and the commands on top of it.

pub mod commands;
pub mod compiler;
pub mod estimate;
pub mod published;
pub mod verification;
