//! State updates and paddings join the kernel that computes what they are about: it writes there.
//!
//! `%1 = rope %k, ..; %2 = transpose %1; %3 = state_update %2, %past` → one `map` cluster that writes
//! the rotated key into the cache where it belongs.
//! `%1 = relu %x; %2 = pad %1; %3 = pad %2` → one `map` cluster that writes inside the border.

use castiron_ir::op::{ClusterKind, Op};

use super::partition::Partition;
use super::roles::is_elementwise;

/// Lets each state write and padding take in the map whose only result it writes, over at most one
/// transpose.
pub fn absorb(partition: &mut Partition<'_>) {
    let region = partition.chains.region;
    for (write, node) in region.nodes.iter().enumerate() {
        if !matches!(node.op, Op::StateUpdate(_) | Op::StateWrite(_) | Op::Pad(_)) {
            continue;
        }
        let mut value = node.operands[0];
        let mut through = None;
        if let Some(i) = partition.chains.definition(value)
            && matches!(region.nodes[i].op, Op::Transpose(_))
            && partition.chains.only_user(value) == Some(write)
        {
            (value, through) = (region.nodes[i].operands[0], Some(i));
        }
        let Some(producer) = partition.chains.definition(value) else { continue };
        let (group, user) = (partition.group(producer), through.unwrap_or(write));
        let is_map = partition.kind(group) == Some(ClusterKind::Map) && computes(&region.nodes[producer].op);
        let alone = partition.results(group) == [value] && partition.chains.only_user(value) == Some(user);
        if is_map && alone {
            partition.merge(group, write, ClusterKind::Map);
            if let Some(transpose) = through {
                partition.merge(transpose, write, ClusterKind::Map);
            }
        }
    }
}

/// Ops that a kernel can compute where the state is; others move whole tensors.
fn computes(op: &Op) -> bool {
    is_elementwise(op) || matches!(op, Op::Rope(_) | Op::Gather(_) | Op::Pad(_))
}
