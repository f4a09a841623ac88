//! What the tests of the whole house share: reference folders and comparisons.

pub mod artifact;
pub mod compiled;
pub mod fixture;
pub mod mutation;
pub mod oracle;
pub mod parity;
