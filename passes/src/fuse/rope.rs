//! Rotary positions: `concat(a·cos - b·sin, b·cos + a·sin, rest)` of slices of `x` → `rope x, cos, sin`.
//! Every channel is read and written once; no halves are copied about.

use castiron_ir::op::{Concat, Op, Rope};
use castiron_ir::{BuildError, Region};

use crate::pattern::{Form, fuse};

/// Fuses rotary positions, of all channels or of the first ones.
///
/// # Errors
/// As [`fuse`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    fuse(region, |chains, node| {
        let x = chains.region.type_of(node.results[0]);
        let last = x.rank().saturating_sub(1);
        if node.op != Op::Concat(Concat { axis: last }) {
            return vec![];
        }
        let mut table = x.clone();
        table.shape[last] = chains.region.type_of(node.operands[0]).shape[last].clone();
        let operands = vec![x.clone(), table.clone(), table];
        let form = |interleaved| Form::new(operands.clone(), &[], move |_| Rope { interleaved }.into());
        vec![form(false), form(true)]
    })
}
