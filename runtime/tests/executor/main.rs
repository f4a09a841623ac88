//! Execution of programs that are written by hand.

mod attention;
mod errors;
mod hostile;
mod products;
mod rows;
mod scans;
mod states;
mod support;
mod top_k;
