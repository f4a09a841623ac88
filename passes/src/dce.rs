//! Dead code elimination: what no result and no state write depends on goes.
//!
//! `%1 = exp %x; return %x` → `return %x`

use castiron_ir::op::{Op, Repeat};
use castiron_ir::{BuildError, Builder, Node, OpDef, Region, Value, ValueId};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

use crate::rewrite::Rewriter;

/// Drops dead nodes, and the operands that no iteration of a `repeat` uses.
///
/// # Errors
/// An op that does not take its own operands, which a verified region has not.
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let narrowed = narrow_repeats(region)?;
    sweep(&narrowed)
}

/// Drops dead nodes.
///
/// # Errors
/// As [`run`].
pub fn sweep(region: &Region) -> Result<Region, BuildError> {
    let live = live_nodes(region);
    let mut rewriter = Rewriter::new(region);
    for (node, _) in region.nodes.iter().zip(live).filter(|(_, live)| *live) {
        let results = rewriter.emit(node.op.clone(), &node.operands);
        rewriter.set_results(node, results);
    }
    rewriter.finish()
}

/// Whether an op changes state, itself or in its region.
pub fn has_effect(op: &Op) -> bool {
    match op {
        Op::StateUpdate(_) | Op::StateWrite(_) => true,
        other => other.region().is_some_and(|r| r.nodes.iter().any(|n| has_effect(&n.op))),
    }
}

/// For each node, whether it is reachable from a result or a state write along its operands.
fn live_nodes(region: &Region) -> Vec<bool> {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let vertices: Vec<NodeIndex> = region.nodes.iter().map(|_| graph.add_node(())).collect();
    let root = graph.add_node(());
    let definitions = region.definitions();
    let depend = |graph: &mut DiGraph<(), ()>, from: NodeIndex, on: &[ValueId]| {
        for i in on.iter().filter_map(|v| definitions[v.index()]) {
            graph.add_edge(from, vertices[i], ());
        }
    };
    depend(&mut graph, root, &region.results);
    for (node, &vertex) in region.nodes.iter().zip(&vertices) {
        depend(&mut graph, vertex, &node.operands);
        if has_effect(&node.op) {
            graph.add_edge(root, vertex, ());
        }
    }
    let mut live = vec![false; region.nodes.len() + 1];
    let mut search = Dfs::new(&graph, root);
    while let Some(vertex) = search.next(&graph) {
        live[vertex.index()] = true;
    }
    live.truncate(region.nodes.len());
    live
}

fn narrow_repeats(region: &Region) -> Result<Region, BuildError> {
    let mut rewriter = Rewriter::new(region);
    for node in &region.nodes {
        let results = match &node.op {
            Op::Repeat(repeat) => narrow(&rewriter, node, repeat)?,
            other => rewriter.emit(other.clone(), &node.operands),
        };
        rewriter.set_results(node, results);
    }
    rewriter.finish()
}

/// A repeat without the shared operands that its body does not use.
fn narrow(rewriter: &Rewriter<'_>, node: &Node, repeat: &Repeat) -> Result<Vec<Value>, BuildError> {
    let body = &repeat.body;
    let uses = body.uses();
    let used = |i: usize| {
        let argument = body.arguments[i];
        i < repeat.carried || !uses[argument.index()].is_empty() || body.results.contains(&argument)
    };
    let kept: Vec<usize> = (0..body.arguments.len()).filter(|&i| used(i)).collect();
    let inner = Builder::new();
    let mut arguments: Vec<Value> = Vec::new();
    for (i, &a) in body.arguments.iter().enumerate() {
        // An unused argument needs a stand-in only; nothing refers to it.
        arguments.push(match used(i) {
            true => inner.argument(&body.argument_names[i], body.type_of(a).clone()),
            false => arguments.first().cloned().unwrap_or_else(|| inner.scalar(castiron_ir::DType::F32, 0.0)),
        });
    }
    let results = inner.inline(body, &arguments);
    let body = inner.finish(&results.iter().collect::<Vec<_>>())?;
    let operands: Vec<ValueId> = kept.iter().map(|&i| node.operands[i]).collect();
    Ok(rewriter.emit(Op::Repeat(Repeat { body, ..repeat.clone() }), &operands))
}
