//! State updates and paddings join the kernel that computes what they are about: it writes there.
//!
//! `%1 = rope %k, ..; %2 = transpose %1; %3 = state_update %2, %past` → one `map` cluster that writes
//! the rotated key into the cache where it belongs.
//! `%1 = reduce %x kind=max ..; %2 = div %x, %1; %3 = state_update %2, ..; %4 = state_update %1, ..` → one `row`
//! cluster that writes both.
//! `%1 = relu %x; %2 = pad %1; %3 = pad %2` → one `map` cluster that writes inside the border.

use castiron_ir::ValueId;
use castiron_ir::op::{ClusterKind, Op};

use super::partition::Partition;
use super::roles::is_elementwise;
use crate::chains::Chains;

/// Lets each state write and padding take in the map or row whose results it writes, over at most one
/// transpose; a row may have several results, if all of them are written to states.
pub fn absorb(partition: &mut Partition<'_>) {
    let region = partition.chains.region;
    for (write, node) in region.nodes.iter().enumerate() {
        if !matches!(node.op, Op::StateUpdate(_) | Op::StateWrite(_) | Op::Pad(_)) {
            continue;
        }
        let (value, through) = written(&partition.chains, write);
        let Some(producer) = partition.chains.definition(value) else { continue };
        let (group, user) = (partition.group(producer), through.unwrap_or(write));
        let is_taken = match partition.kind(group) {
            Some(ClusterKind::Map) => {
                let alone = partition.results(group) == [value] && partition.chains.only_user(value) == Some(user);
                alone && computes(&region.nodes[producer].op)
            }
            Some(ClusterKind::Row) => is_appended(partition, group) && partition.can_merge(group, user),
            _ => false,
        };
        if is_taken {
            let kind = partition.kind(group).unwrap_or(ClusterKind::Map);
            partition.merge(group, write, kind);
            if let Some(transpose) = through {
                partition.merge(transpose, write, kind);
            }
        }
    }
}

/// What a node writes, and the transpose before it if that has no other use.
fn written(chains: &Chains<'_>, write: usize) -> (ValueId, Option<usize>) {
    let value = chains.region.nodes[write].operands[0];
    match chains.definition(value) {
        Some(i) if matches!(chains.region.nodes[i].op, Op::Transpose(_)) && chains.only_user(value) == Some(write) => {
            (chains.region.nodes[i].operands[0], Some(i))
        }
        _ => (value, None),
    }
}

/// Whether all results of a group are appended to states, or are such states.
fn is_appended(partition: &Partition<'_>, group: usize) -> bool {
    let (chains, nodes) = (&partition.chains, &partition.chains.region.nodes);
    let is_append = |node: usize| matches!(nodes[node].op, Op::StateUpdate(_));
    let is_appended = |&value: &ValueId| {
        let appends = |&user: &usize| is_append(user) && nodes[user].operands[0] == value;
        let inside = |&user: &usize| partition.group(user) == group;
        let is_state = chains.definition(value).is_some_and(is_append);
        is_state || !chains.is_returned(value) && chains.users(value).iter().all(|user| inside(user) || appends(user))
    };
    partition.results(group).iter().all(is_appended)
}

/// Ops that a kernel can compute where the state is; others move whole tensors.
fn computes(op: &Op) -> bool {
    is_elementwise(op) || matches!(op, Op::Rope(_) | Op::Gather(_) | Op::Pad(_))
}
