//! Passes: what a model computes, made cheaper without changing it.
//!
//! [`mod@pipeline`] is the only place that knows the order. A pass maps one region to another
//! ([`rewrite`]); nested regions are rewritten alone, so a model of sixty layers is one layer of
//! work. [`cluster`] comes last and divides each region into kernels.

pub mod caches;
pub mod canonicalize;
pub mod chains;
pub mod cluster;
pub mod convolution;
pub mod cse;
pub mod dce;
pub mod fuse;
pub mod merge_linears;
pub mod pass;
pub mod pattern;
pub mod pipeline;
pub mod rewrite;
pub mod simplify;
pub mod weights;

pub use pass::{Pass, PassError, Report};
pub use pipeline::{Options, PASSES, Stage, pipeline, run, run_named};
