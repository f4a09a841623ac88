//! Clustering: the ops of each kernel in one `cluster`.
//!
//! `%1 = dot %x, %w; %2 = add %1, %r` → `%2 = cluster kind=matmul (%a0 = %x, %a1 = %r) { .. }`
//!
//! Afterwards a region holds nothing but
//! - views: `reshape`, `transpose`, `broadcast`, `slice`, `window`;
//! - clusters, each of which is one kernel, with real buffers as operands: params, constants, iotas,
//!   extents and weight expressions are copied into the clusters that use them;
//! - `repeat` and `state_read`, and recurrences, each of which is one kernel: `scan`, whose body stays in plain
//!   ops, `linear_attention` and `selective_scan`.
//!
//! | kind | holds |
//! |---|---|
//! | `matmul` | one `dot` or `gated_mlp`, perhaps with a gather of its weights, then elementwise ops of its result's shape |
//! | `attention` | one `attention` |
//! | `top_k` | one `top_k` |
//! | `fft_conv` | one `fft_conv`, perhaps with a weight as its kernel |
//! | `row` | norms, softmax and reductions over the last axis, with elementwise neighbours of the same leading axes; then perhaps state updates |
//! | `map` | elementwise ops of one shape, gathers; a rope; then perhaps a transpose and a state update or `pad`s |
//!
//! An op that fits nowhere is a `row` (if it works along an axis) or a `map` of its own.

mod elementwise;
mod emit;
mod epilogue;
mod experts;
mod partition;
mod roles;
mod state;

use castiron_ir::{BuildError, Region};

use partition::Partition;
pub(crate) use roles::is_view;

/// Divides a region into kernels. A region that holds clusters already stays as it is.
///
/// # Errors
/// As [`crate::rewrite::Rewriter::finish`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let mut partition = Partition::new(region);
    experts::absorb(&mut partition);
    epilogue::grow(&mut partition);
    elementwise::merge(&mut partition);
    state::absorb(&mut partition);
    emit::write(&partition)
}
