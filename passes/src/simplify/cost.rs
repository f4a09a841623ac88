//! What an expression costs: operations on elements, plus bytes that contractions move.

use castiron_ir::Dim;
use castiron_ir::op::{BinaryOp, UnaryOp};
use egg::{CostFunction, Id, Language};

use super::language::{EGraph, Expr, shape};

/// Cost of a leaf: not nothing, or a cycle would cost as little as what it goes around.
pub const LEAF: f64 = 0.125;

/// Extent that a symbol is taken to have.
const TYPICAL_EXTENT: usize = 32;
/// Operations that one byte of memory traffic is worth.
const PER_BYTE: f64 = 4.0;

/// Cost of an expression as a tree.
pub struct Cost<'a> {
    /// Where the shapes of children are found.
    pub egraph: &'a EGraph,
}

impl CostFunction<Expr> for Cost<'_> {
    type Cost = f64;

    fn cost<C: FnMut(Id) -> f64>(&mut self, node: &Expr, mut costs: C) -> f64 {
        let own = self.own(node);
        node.children().iter().fold(own, |sum, &c| sum + costs(c))
    }
}

impl Cost<'_> {
    /// Cost of the node without its children.
    fn own(&self, node: &Expr) -> f64 {
        let elements = elements(&shape(self.egraph, node));
        let weight = |id: Id| elements_of(self.egraph, id);
        let product = |w: Id| {
            let inner = self.egraph[w].data.shape.last().map_or(1.0, extent);
            2.0 * elements * inner + PER_BYTE * 4.0 * weight(w)
        };
        let write = PER_BYTE * 4.0 * elements;
        match node {
            Expr::Number(_) | Expr::Leaf(_) => LEAF,
            Expr::Unary(f, _) => unary(*f) * elements,
            Expr::Binary(f, _) => binary(*f) * elements,
            Expr::Select(_) => elements,
            Expr::Linear([_, w]) => product(*w) + write,
            Expr::Gated(f, c) => product(c[1]) + product(c[2]) + write + (unary(*f) + 1.0) * elements,
        }
    }
}

fn unary(f: UnaryOp) -> f64 {
    use UnaryOp::*;
    match f {
        Neg | Abs | Sign | Not | Relu | Floor | Round => 1.0,
        Relu2 => 2.0,
        Sqrt | Reciprocal => 4.0,
        Rsqrt => 6.0,
        Exp => 8.0,
        Log | Log1p | Sin | Cos | Tanh | Sigmoid | Silu => 12.0,
        Erf | Gelu | GeluTanh | Softplus => 16.0,
    }
}

fn binary(f: BinaryOp) -> f64 {
    match f {
        BinaryOp::Div | BinaryOp::Mod => 4.0,
        BinaryOp::Pow => 24.0,
        _ => 1.0,
    }
}

fn elements_of(egraph: &EGraph, id: Id) -> f64 {
    elements(&egraph[id].data.shape)
}

fn elements(shape: &[Dim]) -> f64 {
    shape.iter().map(extent).product()
}

fn extent(dim: &Dim) -> f64 {
    dim.evaluate(&|_| Some(TYPICAL_EXTENT)).map_or(TYPICAL_EXTENT as f64, |n| n as f64)
}
