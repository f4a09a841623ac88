//! Weight expressions: values of params and constants alone, known when a model is compiled.

use castiron_ir::op::Op;
use castiron_ir::{Region, Value, ValueId};

use crate::chains::Chains;
use crate::rewrite::Rewriter;

/// For each value of a region, whether it is a weight expression.
pub fn weight_expressions(region: &Region) -> Vec<bool> {
    let mut known = vec![false; region.value_count()];
    for node in &region.nodes {
        let concrete = || node.results.iter().all(|&r| is_concrete(region, r));
        let is_weight = match node.op {
            Op::Param(_) | Op::Constant(_) => true,
            Op::Concat(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Gather(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select(_)
            | Op::Cast(_)
            | Op::Reduce(_)
            | Op::Norm(_)
            | Op::StateSpace(_)
            | Op::Dot(_) => concrete() && node.operands.iter().all(|o| known[o.index()]),
            _ => false,
        };
        node.results.iter().for_each(|r| known[r.index()] = is_weight);
    }
    known
}

fn is_concrete(region: &Region, value: ValueId) -> bool {
    region.type_of(value).shape.iter().all(|d| d.as_constant().is_some())
}

/// How the params of a weight expression are stored, in the order of their use.
pub fn stored<'a>(chains: &Chains<'a>, value: ValueId) -> Vec<Option<&'a str>> {
    let Some(node) = chains.producer(value) else { return Vec::new() };
    match &node.op {
        Op::Param(param) => vec![param.stored.as_deref()],
        _ => node.operands.iter().flat_map(|&operand| stored(chains, operand)).collect(),
    }
}

/// Writes a weight expression at the current place, which may be before its own.
pub fn copy(rewriter: &Rewriter<'_>, chains: &Chains<'_>, value: ValueId) -> Value {
    if let Some(known) = rewriter.find(value) {
        return known.clone();
    }
    let node = chains.producer(value).expect("a weight expression depends on no argument");
    let operands: Vec<Value> = node.operands.iter().map(|&o| copy(rewriter, chains, o)).collect();
    rewriter.new.apply(node.op.clone(), &operands.iter().collect::<Vec<_>>())
}
