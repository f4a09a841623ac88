//! Fused recurrences: lowered as the scans that define them.

use std::borrow::Cow;

use castiron_ir::op::{Op, fused};
use castiron_ir::{Node, OpDef, Region};

use super::LowerError;

/// A region in which fused recurrences are the scans that define them, each in its place.
pub(super) fn as_scans(region: &Region) -> Result<Cow<'_, Region>, LowerError> {
    if !region.nodes.iter().any(is_recurrence) {
        return Ok(Cow::Borrowed(region));
    }
    let mut scans = region.clone();
    for node in scans.nodes.iter_mut().filter(|node| is_recurrence(node)) {
        node.op = scan_of(&node.op, &region.types_of(&node.operands))?;
    }
    Ok(Cow::Owned(scans))
}

fn is_recurrence(node: &Node) -> bool {
    matches!(node.op, Op::LinearAttention(_) | Op::SelectiveScan(_))
}

/// The one node of an op's definition.
fn scan_of(op: &Op, operands: &[castiron_ir::Type]) -> Result<Op, LowerError> {
    let unsupported = |what: String| LowerError::unsupported(op.name(), what);
    let fused_op = op.as_fused().ok_or_else(|| unsupported("it has no definition".into()))?;
    let definition = fused::expansion(fused_op, operands).map_err(|e| unsupported(e.to_string()))?;
    let scan = definition.nodes.into_iter().find(|node| matches!(node.op, Op::Scan(_)));
    scan.map(|node| node.op).ok_or_else(|| unsupported("it is not defined as a scan".into()))
}
