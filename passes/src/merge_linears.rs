//! Merge sibling linears: x·A, x·B, x·C → slices of x·[A|B|C].
//!
//! `dot %x, %q; dot %x, %k` → `%m = dot %x, concat(%q, %k); slice %m; slice %m`
//!
//! One pass over x and one kernel instead of three; the concatenated weight is packed at compile
//! time. Biases that follow are merged in the same way. Weights that the checkpoint stores in different
//! block formats stay apart: merged, they could not be kept as they are.

use castiron_ir::op::{Binary, BinaryOp, Concat, Constant, Dot, Op};
use castiron_ir::{BuildError, Dim, Node, Region, Value, ValueId};

use crate::chains::Chains;
use crate::rewrite::Rewriter;
use crate::weights;

/// A linear: `dot x, w` with the bias that is added to it.
struct Linear {
    /// Node of the dot.
    dot: usize,
    /// Axis of the weight that becomes the last axis of the result.
    output: usize,
    /// Node of the addition, and the bias.
    bias: Option<(usize, ValueId)>,
}

/// Merges the linears of each input.
///
/// # Errors
/// As [`Rewriter::finish`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let chains = Chains::new(region);
    let constant = weights::weight_expressions(region);
    let groups = groups(&chains, &constant);
    let mut rewriter = Rewriter::new(region);
    let mut replaced: Vec<Option<Value>> = vec![None; region.nodes.len()];
    for (i, node) in region.nodes.iter().enumerate() {
        if let Some(group) = groups.iter().find(|g| g[0].dot == i) {
            for (linear, slice) in group.iter().zip(merged(&mut rewriter, &chains, group)) {
                replaced[linear.dot] = Some(slice.clone());
                if let Some((add, _)) = linear.bias {
                    replaced[add] = Some(slice);
                }
            }
        }
        let results = match &replaced[i] {
            Some(slice) => vec![slice.clone()],
            None => rewriter.emit(node.op.clone(), &node.operands),
        };
        rewriter.set_results(node, results);
    }
    rewriter.finish()
}

/// Linears that share the input and the way it is contracted, at least two at a time.
fn groups(chains: &Chains<'_>, constant: &[bool]) -> Vec<Vec<Linear>> {
    let mut groups: Vec<Vec<Linear>> = Vec::new();
    let nodes = &chains.region.nodes;
    for i in 0..nodes.len() {
        let Some(linear) = linear(chains, constant, i) else { continue };
        let same = |g: &&mut Vec<Linear>| {
            let first = &nodes[g[0].dot];
            let stored = |node: &Node| weights::stored(chains, node.operands[1]);
            first.operands[0] == nodes[i].operands[0] && first.op == nodes[i].op && stored(first) == stored(&nodes[i])
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(linear),
            None => groups.push(vec![linear]),
        }
    }
    groups.retain(|g| g.len() > 1);
    groups
}

/// The linear that starts at a node. One of a weight is a weight itself, and one with an elementwise epilogue is left alone: after merging,
/// the epilogue would be a kernel of its own.
fn linear(chains: &Chains<'_>, constant: &[bool], dot: usize) -> Option<Linear> {
    let node = &chains.region.nodes[dot];
    let (Op::Dot(Dot { batch, contract }), [_, weight]) = (&node.op, &node.operands[..]) else { return None };
    let [(x_axis, w_axis)] = contract[..] else { return None };
    let ty = chains.region.type_of(*weight);
    let x = chains.region.type_of(node.operands[0]);
    if !batch.is_empty()
        || ty.rank() != 2
        || x_axis + 1 != x.rank()
        || !constant[weight.index()]
        || constant[node.operands[0].index()]
    {
        return None;
    }
    let output = 1 - w_axis;
    let bias = bias(chains, constant, node.results[0], &ty.shape[output]);
    let last = bias.map_or(node.results[0], |(add, _)| chains.region.nodes[add].results[0]);
    let epilogue = chains.only_user(last).is_some_and(|user| is_elementwise(&chains.region.nodes[user]));
    (!epilogue).then_some(Linear { dot, output, bias })
}

fn is_elementwise(node: &Node) -> bool {
    matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_))
}

/// The addition of a weight vector that is the only use of a value.
fn bias(chains: &Chains<'_>, constant: &[bool], value: ValueId, width: &Dim) -> Option<(usize, ValueId)> {
    let user = chains.only_user(value)?;
    let node = &chains.region.nodes[user];
    let Op::Binary(Binary(BinaryOp::Add)) = node.op else { return None };
    let other = *node.operands.iter().find(|&&o| o != value)?;
    let vector = chains.region.type_of(other).shape == [width.clone()];
    (constant[other.index()] && vector).then_some((user, other))
}

/// Writes the merged linear; gives each sibling's share of the result.
fn merged(rewriter: &mut Rewriter<'_>, chains: &Chains<'_>, group: &[Linear]) -> Vec<Value> {
    let node = |l: &Linear| &chains.region.nodes[l.dot];
    let weight = |l: &Linear| node(l).operands[1];
    let x = rewriter.get(node(&group[0]).operands[0]);
    let parts: Vec<Value> = group.iter().map(|l| weights::copy(rewriter, chains, weight(l))).collect();
    let joined = rewriter.new.apply(Concat { axis: group[0].output }, &parts.iter().collect::<Vec<_>>());
    let mut product = x.apply(node(&group[0]).op.clone(), &[&joined]);
    let widths: Vec<Dim> = parts.iter().map(|p| p.dim(group[0].output)).collect();
    if group.iter().any(|l| l.bias.is_some()) {
        let bias = |(l, width): (&Linear, &Dim)| match l.bias {
            Some((_, bias)) => weights::copy(rewriter, chains, bias),
            None => {
                let ty = product.ty().with_shape(vec![width.clone()]);
                rewriter.new.apply(Constant { values: vec![0.0], ty }, &[])
            }
        };
        let biases: Vec<Value> = group.iter().zip(&widths).map(bias).collect();
        product = product + rewriter.new.concat(0, &biases.iter().collect::<Vec<_>>());
    }
    let (last, mut start) = (product.rank() - 1, Dim::from(0));
    let mut slices = Vec::new();
    for width in widths {
        let end = start.clone() + width;
        slices.push(product.slice(last, start, end.clone()));
        start = end;
    }
    slices
}
