//! Stashes: values that are costly to compute again wait in an output row for the last phase.
//!
//! Softmax sums `e^(x - max)` in one phase and divides it by the sum in the next. Writing the
//! exponential to the output while it is summed halves the work. An output may be the same memory as
//! any input, so this is done only if the last phase reads nothing but stashes and uniform values
//! that are known before.

use castiron_ir::op::{BinaryOp, UnaryOp};

use crate::program::row::{Level, RowNode, RowNodeId, RowProgram};

/// A value that the last phase reads from an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stash {
    /// The value.
    pub(super) node: RowNodeId,
    /// The output that holds it meanwhile.
    pub(super) output: u16,
    /// Phase that computes it.
    pub(super) phase: u16,
}

/// Cost from which on a value is worth a store and a load; an addition costs 1.
const THRESHOLD: u32 = 10;

/// The stashes of a program; none if that would be wrong or useless.
pub(super) fn plan(program: &RowProgram, levels: &[Level]) -> Vec<Stash> {
    let last = program.stores.iter().map(|&n| levels[usize::from(n)].phase).max().unwrap_or(0);
    let Some(phase) = last.checked_sub(1) else { return Vec::new() };
    let is_row = |&&(_, node): &&(u16, RowNodeId)| levels[usize::from(node)].varies;
    let outputs: Vec<(u16, RowNodeId)> = (0..).zip(program.stores.iter().copied()).collect();
    let costs = costs(program, levels);
    let worth = |node: RowNodeId| {
        let level = levels[usize::from(node)];
        level.varies && level.phase == phase && costs[usize::from(node)] >= THRESHOLD
    };
    let Some(nodes) = frontier(program, worth) else { return Vec::new() };
    let rows: Vec<u16> = outputs.iter().filter(is_row).map(|&(output, _)| output).collect();
    if nodes.len() > rows.len() {
        return Vec::new();
    }
    nodes.into_iter().zip(rows).map(|(node, output)| Stash { node, output, phase }).collect()
}

/// The first nodes worth a stash on every path from the stores; `None` if a path reaches an input.
fn frontier(program: &RowProgram, worth: impl Fn(RowNodeId) -> bool) -> Option<Vec<RowNodeId>> {
    let mut found = Vec::new();
    let mut seen = vec![false; program.nodes.len()];
    let mut pending = program.stores.clone();
    while let Some(id) = pending.pop() {
        if std::mem::replace(&mut seen[usize::from(id)], true) {
            continue;
        }
        let node = &program.nodes[usize::from(id)];
        match node {
            _ if worth(id) => found.push(id),
            RowNode::Input(_) => return None,
            RowNode::Reduce(..) => {}
            _ => pending.extend(node.operands()),
        }
    }
    Some(found)
}

/// The work behind each varying node, shared parts counted once for each path.
fn costs(program: &RowProgram, levels: &[Level]) -> Vec<u32> {
    let mut costs: Vec<u32> = Vec::with_capacity(program.nodes.len());
    for (node, level) in program.nodes.iter().zip(levels) {
        let operands = node.operands().fold(0_u32, |sum, o| sum.saturating_add(costs[usize::from(o)]));
        costs.push(if level.varies { operands.saturating_add(own_cost(node)) } else { 0 });
    }
    costs
}

fn own_cost(node: &RowNode) -> u32 {
    use UnaryOp::*;
    match node {
        RowNode::Unary(Neg | Abs | Floor | Round | Sign | Not | Relu, _) => 1,
        RowNode::Unary(Sqrt | Rsqrt | Reciprocal, _) | RowNode::Binary(BinaryOp::Div, ..) => 4,
        RowNode::Unary(..) | RowNode::Binary(BinaryOp::Pow, ..) => 10,
        _ => 1,
    }
}
