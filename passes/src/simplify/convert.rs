//! Between regions and the e-graph.

use std::collections::HashMap;

use castiron_ir::op::{Binary, Constant, Dot, GatedMlp, Op, Select, Unary};
use castiron_ir::{DType, Node, Region, Value, ValueId};
use egg::{CostFunction, Extractor, Id, Language};

use super::cost::{Cost, LEAF};
use super::language::{EGraph, Expr, Shapes};
use crate::rewrite::Rewriter;
use crate::weights::weight_expressions;

/// A region's arithmetic of one element type as an e-graph.
pub struct Import {
    /// The graph.
    pub egraph: EGraph,
    /// The value that each leaf stands for.
    pub leaves: Vec<ValueId>,
    /// The class of each value that is not a leaf.
    pub classes: Vec<Option<Id>>,
    /// The node that each class of a value was written as, in order.
    written: Vec<(ValueId, Expr)>,
}

impl Import {
    /// Enters every elementwise op and linear whose result has the element type.
    pub fn new(region: &Region, dtype: DType) -> Import {
        let count = region.value_count();
        let egraph = EGraph::new(Shapes::default());
        let mut import = Import { egraph, leaves: vec![], classes: vec![None; count], written: vec![] };
        let mut ids: Vec<Option<Id>> = vec![None; count];
        let weights = weight_expressions(region);
        for node in &region.nodes {
            let [result] = node.results[..] else { continue };
            if region.type_of(result).dtype != dtype {
                continue;
            }
            let Some(mut expr) = template(region, node, &weights) else { continue };
            for (child, &operand) in expr.children_mut().iter_mut().zip(&node.operands) {
                *child = import.operand(region, &mut ids, operand);
            }
            let id = import.egraph.add(expr.clone());
            import.written.push((result, expr));
            (ids[result.index()], import.classes[result.index()]) = (Some(id), Some(id));
        }
        import.egraph.rebuild();
        import
    }

    fn operand(&mut self, region: &Region, ids: &mut [Option<Id>], value: ValueId) -> Id {
        *ids[value.index()].get_or_insert_with(|| {
            self.leaves.push(value);
            self.egraph.analysis.leaves.push(region.type_of(value).shape.clone());
            self.egraph.add(Expr::Leaf(self.leaves.len() - 1))
        })
    }

    /// Cost of each value as the model wrote it.
    pub fn costs(&self) -> Vec<f64> {
        let mut costs = vec![0.0; self.classes.len()];
        let mut by_id: HashMap<Id, f64> = HashMap::new();
        let mut function = Cost { egraph: &self.egraph };
        for (value, expr) in &self.written {
            let cost = function.cost(expr, |id| by_id.get(&id).copied().unwrap_or(LEAF));
            costs[value.index()] = cost;
            if let Some(id) = self.classes[value.index()] {
                by_id.insert(id, cost);
            }
        }
        costs
    }
}

/// How a node reads in the language, children aside; `None` for a leaf.
fn template(region: &Region, node: &Node, weights: &[bool]) -> Option<Expr> {
    let open = Id::from(0);
    match &node.op {
        Op::Constant(Constant { values, ty }) if ty.rank() == 0 => Some(Expr::number(values[0])),
        Op::Unary(Unary(f)) => Some(Expr::Unary(*f, [open])),
        Op::Binary(Binary(f)) if !f.is_predicate() => Some(Expr::Binary(*f, [open; 2])),
        Op::Select(_) => Some(Expr::Select([open; 3])),
        Op::Dot(dot) => {
            let [x, weight] = [0, 1].map(|i| region.type_of(node.operands[i]).rank());
            let linear = *dot == Dot::linear(x) && weight == 2 && weights[node.operands[1].index()];
            linear.then_some(Expr::Linear([open; 2]))
        }
        _ => None,
    }
}

/// Writes the best expression of a class; `None` if it uses a leaf that is not defined yet.
pub fn export(
    rewriter: &Rewriter<'_>,
    best: &Extractor<'_, Cost<'_>, Expr, Shapes>,
    leaves: &[ValueId],
    dtype: DType,
    class: Id,
) -> Option<Value> {
    let node = best.find_best_node(class);
    if let Expr::Leaf(i) = node {
        return rewriter.find(leaves[*i]).cloned();
    }
    let operands: Option<Vec<Value>> =
        node.children().iter().map(|&c| export(rewriter, best, leaves, dtype, c)).collect();
    let operands = operands?;
    let op: Op = match node {
        Expr::Number(bits) => Constant::scalar(dtype, f64::from_bits(*bits)).into(),
        Expr::Leaf(_) => return None,
        Expr::Unary(f, _) => Unary(*f).into(),
        Expr::Binary(f, _) => Binary(*f).into(),
        Expr::Select(_) => Select.into(),
        Expr::Linear(_) => Dot::linear(operands[0].rank()).into(),
        Expr::Gated(f, _) => GatedMlp { activation: *f }.into(),
    };
    Some(rewriter.new.apply(op, &operands.iter().collect::<Vec<_>>()))
}
