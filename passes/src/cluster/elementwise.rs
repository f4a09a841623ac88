//! Elementwise clustering: producers join their consumers when one loop can compute both.
//!
//! `%1 = exp %x; %2 = mul %1, %y` → one `map` cluster, and `%1` is never written.
//!
//! Chains of single uses come first; then values with several users, which become one more result
//! of the cluster they join.

use std::collections::BTreeSet;

use castiron_ir::op::{ClusterKind, Op, broadcast_shapes};
use castiron_ir::{Dim, Type, ValueId};

use super::partition::Partition;
use super::roles::{Role, is_cheap, is_view, takes_producer};

/// Memories of the operands and results of one kernel, its weights included: browsers allow ten buffers.
const MOST_BUFFERS: usize = 8;

/// Operands and results of one kernel: code generators take 32, some of which fused ops bring.
const MOST_OPERANDS: usize = 24;

/// Joins producers to consumers while that is possible.
pub fn merge(partition: &mut Partition<'_>) {
    for single_use in [true, false] {
        let region = partition.chains.region;
        for (consumer, node) in region.nodes.iter().enumerate() {
            for (i, &operand) in node.operands.iter().enumerate() {
                let Some(producer) = partition.chains.definition(operand) else { continue };
                let one_user = partition.chains.only_user(operand).is_some();
                if (!single_use || one_user) && takes_producer(&node.op, i) {
                    try_join(partition, producer, consumer);
                }
            }
        }
    }
}

fn try_join(partition: &mut Partition<'_>, producer: usize, consumer: usize) {
    let joins = |node: usize| matches!(partition.roles[node], Role::Kernel { joins: true, .. });
    let (p, c) = (partition.group(producer), partition.group(consumer));
    let (Some(p_kind), Some(c_kind)) = (partition.kind(p), partition.kind(c)) else { return };
    let loops = |kind| matches!(kind, ClusterKind::Map | ClusterKind::Row);
    if p == c || !joins(producer) || !joins(consumer) || !loops(p_kind) || !loops(c_kind) {
        return;
    }
    let kind = if p_kind == ClusterKind::Row { p_kind } else { c_kind };
    if one_loop(partition, p, c, kind) && partition.can_merge(p, c) && fits(partition, p, c) {
        partition.merge(p, c, kind);
    }
}

/// Whether one iteration space serves both groups.
fn one_loop(partition: &Partition<'_>, producer: usize, consumer: usize, kind: ClusterKind) -> bool {
    let (p, c) = (space(partition, producer), space(partition, consumer));
    if kind == ClusterKind::Row {
        let by_row = |group| partition.members(group).iter().all(|&n| loads_rows(partition, n));
        if !by_row(producer) || !by_row(consumer) {
            return false;
        }
        if same_rows(&p, &c) {
            return true;
        }
    }
    p == c || (broadcast_shapes(&[&p, &c]) == Ok(c.shape.clone()) && recomputable(partition, producer, consumer))
}

/// The shape that all values of a group broadcast to.
fn space(partition: &Partition<'_>, group: usize) -> Type {
    let region = partition.chains.region;
    let mut types = Vec::new();
    for &member in partition.members(group) {
        let node = &region.nodes[member];
        types.extend(node.results.iter().map(|&r| region.type_of(r)));
        if matches!(node.op, Op::Reduce(_)) {
            types.push(region.type_of(node.operands[0]));
        }
    }
    // The element type plays no part, but a type is what shapes are compared in.
    Type::f32(broadcast_shapes(&types).unwrap_or_default())
}

/// Equal leading axes, and last axes that are equal or 1.
fn same_rows(a: &Type, b: &Type) -> bool {
    let one = Dim::from(1);
    match (a.shape.split_last(), b.shape.split_last()) {
        (Some((x, leading)), Some((y, other))) => leading == other && (x == y || *x == one || *y == one),
        _ => false,
    }
}

/// Whether a node can be part of a row kernel: a gather has to pick rows of a weight.
fn loads_rows(partition: &Partition<'_>, node: usize) -> bool {
    let node = &partition.chains.region.nodes[node];
    match &node.op {
        Op::Gather(gather) => {
            let table = partition.chains.definition(node.operands[0]);
            gather.axis == 0
                && gather.batch.unwrap_or(0) == 0
                && table.is_some_and(|t| partition.roles[t] == Role::Leaf)
        }
        _ => true,
    }
}

/// Whether a smaller group may be computed again for each element of the one group that uses it.
fn recomputable(partition: &Partition<'_>, producer: usize, consumer: usize) -> bool {
    let region = partition.chains.region;
    let width = space(partition, consumer).shape.last().cloned();
    let cheap = |&member: &usize| match &region.nodes[member] {
        node if matches!(node.op, Op::Gather(_)) => region.type_of(node.results[0]).shape.last() == width.as_ref(),
        node => is_cheap(&node.op),
    };
    let inside = |value: &ValueId| {
        let users = partition.chains.users(*value);
        !partition.chains.is_returned(*value) && users.iter().all(|&u| partition.group(u) == consumer)
    };
    partition.members(producer).iter().all(cheap) && partition.results(producer).iter().all(inside)
}

/// Whether a kernel of both groups takes no more than code generators and devices do.
fn fits(partition: &Partition<'_>, producer: usize, consumer: usize) -> bool {
    let chains = &partition.chains;
    let inside = |node: usize| [producer, consumer].contains(&partition.group(node));
    let is_outside = |value: &ValueId| match chains.definition(*value) {
        Some(node) => !inside(node) && !matches!(chains.region.nodes[node].op, Op::Constant(_)),
        None => true,
    };
    let members = || partition.members(producer).iter().chain(partition.members(consumer));
    let operands = members().flat_map(|&m| &chains.region.nodes[m].operands).copied().filter(is_outside);
    let operands: BTreeSet<ValueId> = operands.collect();
    let memories: BTreeSet<ValueId> = operands.iter().filter_map(|&value| memory(partition, value)).collect();
    let leaves = |v: &ValueId| chains.is_returned(*v) || chains.users(*v).iter().any(|&u| !inside(u));
    let results = members().flat_map(|&m| &chains.region.nodes[m].results).filter(|v| leaves(v)).count();
    memories.len() + results <= MOST_BUFFERS && operands.len() + results <= MOST_OPERANDS
}

/// The value whose memory an operand lies in; `None` for a number without memory.
fn memory(partition: &Partition<'_>, mut value: ValueId) -> Option<ValueId> {
    let chains = &partition.chains;
    while let Some(node) = chains.definition(value) {
        let op = &chains.region.nodes[node].op;
        let is_inside = match partition.roles[node] {
            // Slices of one weight are one buffer, other expressions have their own.
            Role::Leaf => matches!(op, Op::Slice(_)),
            _ => is_view(op),
        };
        if matches!(op, Op::Iota(_) | Op::Extent(_)) {
            return None;
        }
        if !is_inside {
            break;
        }
        value = chains.region.nodes[node].operands[0];
    }
    Some(value)
}
