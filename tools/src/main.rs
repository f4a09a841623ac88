//! castiron
fn main() {}
