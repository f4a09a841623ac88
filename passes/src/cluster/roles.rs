//! What each op is to a kernel.

use castiron_ir::op::{ClusterKind, Op, UnaryOp};
use castiron_ir::{Node, Region};

use crate::weights::weight_expressions;

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Copied into the clusters that use it.
    Leaf,
    /// Left between clusters: a view, an op with a region, a read of state.
    Apart,
    /// Part of a kernel.
    Kernel {
        /// The kind of a cluster around it.
        kind: ClusterKind,
        /// Whether it can share the cluster with others.
        joins: bool,
    },
}

/// The role of every node.
pub fn roles(region: &Region) -> Vec<Role> {
    let weights = weight_expressions(region);
    let role = |node: &Node| {
        if node.results.iter().all(|r| weights[r.index()]) { Role::Leaf } else { role(region, node) }
    };
    region.nodes.iter().map(role).collect()
}

fn role(region: &Region, node: &Node) -> Role {
    let kernel = |kind, joins| Role::Kernel { kind, joins };
    let rank = |i: usize| region.type_of(node.operands[i]).rank();
    match &node.op {
        Op::Param(_) | Op::Constant(_) | Op::Iota(_) | Op::Extent(_) => Role::Leaf,
        op if is_view(op) => Role::Apart,
        Op::StateRead(_) | Op::Repeat(_) | Op::Scan(_) | Op::Cluster(_) => Role::Apart,
        Op::LinearAttention(_) | Op::SelectiveScan(_) => Role::Apart,
        Op::Dot(_) | Op::GatedMlp(_) => kernel(ClusterKind::Matmul, false),
        Op::Attention(_) => kernel(ClusterKind::Attention, false),
        Op::Norm(_) | Op::Softmax(_) => kernel(ClusterKind::Row, true),
        Op::Reduce(reduce) => kernel(ClusterKind::Row, reduce.axes == [rank(0) - 1]),
        Op::TopK(_) => kernel(ClusterKind::TopK, false),
        Op::FftConv(_) => kernel(ClusterKind::FftConv, false),
        Op::LinearRecurrence(_) => kernel(ClusterKind::Row, false),
        // Indices along the last axis would make every element an access of its own.
        Op::Gather(gather) => kernel(ClusterKind::Map, gather.axis + 1 < rank(0)),
        op => kernel(ClusterKind::Map, is_elementwise(op)),
    }
}

/// Whether an op is a matter of offsets and strides.
pub fn is_view(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Window(_))
}

/// Whether an op maps elements to elements.
pub fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_))
}

/// Whether an op costs no more than the load that computing it again would save.
pub fn is_cheap(op: &Op) -> bool {
    use UnaryOp::*;
    match op {
        Op::Unary(f) => matches!(f.0, Neg | Abs | Sign | Not | Relu | Relu2 | Floor | Round),
        Op::Binary(_) | Op::Select(_) | Op::Cast(_) => true,
        _ => false,
    }
}

/// Whether an operand has to be a buffer, so that a leaf there needs a cluster that yields it.
pub fn needs_buffer(op: &Op, operand: usize) -> bool {
    match op {
        Op::Gather(_) | Op::StateUpdate(_) => operand == 1,
        // Sinks come last; kernels read them as a weight.
        Op::Attention(attention) => !attention.sinks || operand != attention.operands() - 1,
        Op::LinearRecurrence(_) | Op::TopK(_) => true,
        // A weight may be the second.
        Op::FftConv(_) => operand != 1,
        _ => false,
    }
}

/// Whether a kernel may compute an operand of an op by itself, element by element.
pub fn takes_producer(op: &Op, operand: usize) -> bool {
    match op {
        Op::Norm(_) => operand == 0,
        Op::Softmax(_) | Op::Reduce(_) => true,
        op => is_elementwise(op),
    }
}
