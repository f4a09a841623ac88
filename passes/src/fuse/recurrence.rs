//! Recurrences that kernels know: a `scan` whose step is the definition of a fused op's → `linear_attention` or
//! `selective_scan` on the same operands. Executors then keep the state in registers over many steps, and read
//! it in the order that suits their vectors.

use castiron_ir::op::{LinearAttention, Op, Scan, SelectiveScan};
use castiron_ir::{BuildError, Region, Type};

use crate::pattern::Definitions;
use crate::rewrite::rebuild;

/// Fuses scans.
///
/// # Errors
/// As [`rebuild`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let mut definitions = Definitions::default();
    rebuild(region, |rewriter, node| {
        let Op::Scan(scan) = &node.op else { return None };
        let types = region.types_of(&node.operands);
        let op = forms(&types).into_iter().find(|op| {
            let definition = definitions.get(op, &types);
            definition.is_some_and(|region| region.nodes.iter().any(|node| is_same(&node.op, scan)))
        })?;
        Some(rewriter.emit(op, &node.operands))
    })
}

/// The ops that take so many operands.
fn forms(types: &[Type]) -> Vec<Op> {
    let truths = [false, true];
    let all = truths.iter().flat_map(|&decay| truths.iter().map(move |&delta| (decay, delta)));
    let all = all.flat_map(|(decay, delta)| truths.iter().map(move |&before| LinearAttention { decay, delta, before }));
    let mut forms: Vec<Op> = all.filter(|op| op.operands() == types.len()).map(Op::from).collect();
    if types.len() == 6 {
        forms.push(SelectiveScan {}.into());
    }
    forms
}

/// Whether an op is a scan that does the same as another, whatever they call their arguments.
fn is_same(op: &Op, b: &Scan) -> bool {
    let Op::Scan(a) = op else { return false };
    let mut renamed = b.clone();
    renamed.body.argument_names.clone_from(&a.body.argument_names);
    *a == renamed
}
