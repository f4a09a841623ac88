//! castiron's backends: the compiling half, from optimised graphs to kernel programs.

pub mod lower;
