//! What backends may rely on after clustering.

use castiron_ir::op::{Cluster, ClusterKind, Op};
use castiron_ir::{Node, OpDef, Region, Type};

/// Panics unless a region and those in it are clustered as `castiron_passes::cluster` says.
pub fn check(region: &Region) {
    for node in &region.nodes {
        match &node.op {
            Op::Cluster(cluster) => check_cluster(cluster),
            Op::Repeat(_) => check(node.op.region().unwrap()),
            Op::Scan(scan) => assert!(scan.body.nodes.iter().all(|n| n.op.region().is_none()), "a region in a scan"),
            Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Window(_) => {}
            Op::StateRead(_) | Op::LinearAttention(_) | Op::SelectiveScan(_) => {}
            other => panic!("`{}` between clusters", other.name()),
        }
        if !matches!(node.op, Op::Cluster(_)) {
            let definitions = region.definitions();
            for o in &node.operands {
                let leaf = definitions[o.index()].is_some_and(|d| is_leaf(&region.nodes[d].op));
                assert!(!leaf, "`{}` uses a leaf that is no buffer", node.op.name());
            }
        }
    }
}

fn check_cluster(cluster: &Cluster) {
    let body = &cluster.body;
    assert!(!body.results.is_empty(), "a cluster without result");
    let kernel = computed(body);
    let count = |wanted: fn(&Op) -> bool| kernel.iter().filter(|n| wanted(&n.op)).count();
    match cluster.kind {
        ClusterKind::Matmul => {
            assert_eq!((count(is_contraction), body.results.len()), (1, 1));
            let shape =
                &kernel.iter().find(|n| is_contraction(&n.op)).map(|n| body.type_of(n.results[0])).unwrap().shape;
            for node in kernel.iter().filter(|n| !is_contraction(&n.op)) {
                assert!(is_elementwise(&node.op) && body.type_of(node.results[0]).shape == *shape, "{node:?}");
            }
        }
        ClusterKind::Attention => {
            assert_eq!((kernel.len(), count(|op| matches!(op, Op::Attention(_)))), (1, 1));
        }
        ClusterKind::TopK => {
            assert_eq!((kernel.len(), count(|op| matches!(op, Op::TopK(_)))), (1, 1));
        }
        ClusterKind::FftConv => {
            assert_eq!((kernel.len(), count(|op| matches!(op, Op::FftConv(_)))), (1, 1));
        }
        ClusterKind::Row | ClusterKind::Map if kernel.len() < 2 => {}
        ClusterKind::Row => kernel.iter().for_each(|n| assert!(is_row(&n.op, body.types_of(&n.operands)), "{n:?}")),
        ClusterKind::Map => kernel.iter().for_each(|n| assert!(is_map(&n.op), "{n:?}")),
    }
}

/// Nodes of a body that depend on an argument, or are the whole of it.
fn computed(body: &Region) -> Vec<&Node> {
    let mut known = vec![true; body.value_count()];
    body.arguments.iter().for_each(|a| known[a.index()] = false);
    let mut nodes = Vec::new();
    for node in &body.nodes {
        assert!(node.op.region().is_none(), "a region inside a cluster");
        if !node.operands.iter().all(|o| known[o.index()]) {
            nodes.push(node);
            node.results.iter().for_each(|r| known[r.index()] = false);
        }
    }
    nodes
}

fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Param(_) | Op::Constant(_) | Op::Iota(_) | Op::Extent(_))
}

fn is_contraction(op: &Op) -> bool {
    matches!(op, Op::Dot(_) | Op::GatedMlp(_))
}

fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_))
}

fn is_row(op: &Op, operands: Vec<Type>) -> bool {
    let last_axis = |axes: &[usize]| axes == [operands[0].rank() - 1];
    match op {
        Op::Norm(_) | Op::Softmax(_) => true,
        Op::Reduce(reduce) => last_axis(&reduce.axes),
        Op::Gather(gather) => gather.axis == 0 && gather.batch.is_none(),
        Op::StateUpdate(_) => true,
        op => is_elementwise(op),
    }
}

fn is_map(op: &Op) -> bool {
    is_elementwise(op)
        || matches!(op, Op::Gather(_) | Op::Rope(_) | Op::Transpose(_) | Op::Pad(_))
        || matches!(op, Op::StateUpdate(_) | Op::StateWrite(_))
}
