//! Programs with launches and shaders, all written by hand, on whatever adapter there is.
//!
//! A machine without adapter fails these tests: Mesa's lavapipe is one that every machine can have.

#[path = "../executor/support.rs"]
mod support;

mod faults;
mod fixtures;
mod hostile;
mod limits;
mod profiles;
mod runs;
mod shaders;
mod states;
