//! Simplification by equality saturation (egg, arXiv:2004.03082).
//!
//! `%1 = neg %x; %2 = exp %1; %3 = add %2, 1; %4 = div %x, %3` → `%4 = silu %x`
//!
//! The elementwise trees of a region and the linears between them form one e-graph; everything
//! else is an opaque leaf. A region is one layer, so the graph is small. A node is replaced only
//! where the best equal expression costs less than the one the model wrote.

mod convert;
mod cost;
mod language;
mod rules;

use castiron_ir::{BuildError, DType, Region};
use egg::{BackoffScheduler, Extractor, Runner};

use crate::rewrite::Rewriter;
use convert::{Import, export};
use cost::Cost;

/// Rounds of rewriting: more than any rule chain here needs.
const ROUNDS: usize = 10;
/// Nodes that one layer's e-graph never reaches; a guard against a rule that grows without end.
const MOST_NODES: usize = 20_000;

/// Simplifies the arithmetic of a region, for each floating-point type that occurs in it.
///
/// # Errors
/// As [`Rewriter::finish`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let mut region = region.clone();
    for dtype in DType::ALL.into_iter().filter(|d| d.is_float()) {
        if region.nodes.iter().any(|n| n.results.iter().any(|&r| region.type_of(r).dtype == dtype)) {
            region = simplify(&region, dtype)?;
        }
    }
    Ok(region)
}

fn simplify(region: &Region, dtype: DType) -> Result<Region, BuildError> {
    let import = Import::new(region, dtype);
    let written = import.costs();
    let rules = rules::all();
    let runner = Runner::default()
        .with_egraph(import.egraph)
        .with_iter_limit(ROUNDS)
        .with_node_limit(MOST_NODES)
        .with_scheduler(BackoffScheduler::default())
        .run(&rules);
    let best = Extractor::new(&runner.egraph, Cost { egraph: &runner.egraph });
    let mut rewriter = Rewriter::new(region);
    for node in &region.nodes {
        let cheaper = match node.results[..] {
            [result] => import.classes[result.index()].filter(|&class| {
                // Rounding of sums of costs is no improvement.
                best.find_best_cost(class) < written[result.index()] * (1.0 - 1e-9)
            }),
            _ => None,
        };
        let replaced = cheaper.and_then(|class| export(&rewriter, &best, &import.leaves, dtype, class));
        let results = match replaced {
            Some(value) if value.ty() == *region.type_of(node.results[0]) => vec![value],
            _ => rewriter.emit(node.op.clone(), &node.operands),
        };
        rewriter.set_results(node, results);
    }
    rewriter.finish()
}
