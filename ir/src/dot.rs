//! Regions as petgraph graphs, and Graphviz text through petgraph.

use petgraph::dot::{Config, Dot};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::graph::{Module, Region};
use crate::op::OpDef;

/// A region as a graph: a vertex for each argument, node and the results, an edge for each use,
/// labelled with the value's type. Node `i` of the region is vertex `arguments + i`.
pub fn to_petgraph(region: &Region) -> DiGraph<String, String> {
    let mut graph = DiGraph::new();
    let mut definer: Vec<Option<NodeIndex>> = vec![None; region.value_count()];
    for (name, a) in region.argument_names.iter().zip(&region.arguments) {
        definer[a.index()] = Some(graph.add_node(format!("%{name}")));
    }
    for node in &region.nodes {
        let mut label = node.op.name().to_owned();
        node.op.print_attributes(&mut label);
        let vertex = graph.add_node(label);
        for o in &node.operands {
            if let Some(from) = definer[o.index()] {
                graph.add_edge(from, vertex, region.type_of(*o).to_string());
            }
        }
        for r in &node.results {
            definer[r.index()] = Some(vertex);
        }
    }
    let end = graph.add_node("results".to_owned());
    for r in &region.results {
        if let Some(from) = definer[r.index()] {
            graph.add_edge(from, end, region.type_of(*r).to_string());
        }
    }
    graph
}

/// A module as Graphviz text, one graph for each region.
pub fn to_dot(module: &Module) -> String {
    let mut out = String::new();
    for entry in &module.entries {
        region_dot(&entry.name, &entry.body, &mut out);
    }
    out
}

fn region_dot(name: &str, region: &Region, out: &mut String) {
    let graph = to_petgraph(region);
    out.push_str(&format!("digraph {name:?} {{\n{}}}\n", Dot::with_config(&graph, &[Config::GraphContentOnly])));
    for (i, node) in region.nodes.iter().enumerate() {
        if let Some(inner) = node.op.region() {
            region_dot(&format!("{name}.{}.{i}", node.op.name()), inner, out);
        }
    }
}
