//! Recurrences that kernels know: a `scan` whose step is the definition of a fused op's → `linear_attention` or
//! `selective_scan` on the same operands. Executors then keep the state in registers over many steps, and read
//! it in the order that suits their vectors.

use std::collections::HashMap;

use castiron_ir::op::fused::expansion;
use castiron_ir::op::{LinearAttention, Op, Scan, SelectiveScan};
use castiron_ir::{BuildError, OpDef, Region, Type};

use crate::rewrite::{each_region, rebuild};
use crate::{canonicalize, cse, dce};

/// Fuses scans.
///
/// # Errors
/// As [`rebuild`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let mut definitions = HashMap::new();
    rebuild(region, |rewriter, node| {
        let Op::Scan(scan) = &node.op else { return None };
        let types = region.types_of(&node.operands);
        let op = forms(&types).into_iter().find(|op| {
            let mut key = op.name().to_owned();
            op.print_attributes(&mut key);
            types.iter().for_each(|ty| key.push_str(&format!(" {ty}")));
            let definition = definitions.entry(key).or_insert_with(|| definition(op, &types));
            definition.as_ref().is_some_and(|definition| is_same(definition, scan))
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

/// The scan that an op is defined as, in canonical form; nothing if it does not take such operands.
fn definition(op: &Op, types: &[Type]) -> Option<Scan> {
    let plain = expansion(op.as_fused()?, types).ok()?;
    let tidy = |region: &Region| dce::sweep(&cse::run(&canonicalize::run(region)?)?);
    let tidied = each_region(&plain, &|_| true, &tidy).ok()?;
    tidied.nodes.into_iter().find_map(|node| match node.op {
        Op::Scan(scan) => Some(scan),
        _ => None,
    })
}

/// Whether two scans do the same, whatever they call their arguments.
fn is_same(a: &Scan, b: &Scan) -> bool {
    let mut renamed = b.clone();
    renamed.body.argument_names.clone_from(&a.body.argument_names);
    *a == renamed
}
