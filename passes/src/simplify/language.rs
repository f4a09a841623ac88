//! The e-graph's language: the elementwise op table, linears, scalar constants and opaque leaves.

use castiron_ir::Dim;
use castiron_ir::Type;
use castiron_ir::op::{BinaryOp, UnaryOp, broadcast_shapes};
use egg::{Analysis, DidMerge, FromOp, FromOpError, Id, Language};

/// An expression node of one floating-point type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr {
    /// A scalar constant, as the bits of its f64.
    Number(u64),
    /// A value that is not looked into; its index in the list of leaves.
    Leaf(usize),
    /// A function of one number.
    Unary(UnaryOp, [Id; 1]),
    /// A function of two numbers.
    Binary(BinaryOp, [Id; 2]),
    /// `c ? a : b`, with a leaf as condition.
    Select([Id; 3]),
    /// `x·Wᵀ`
    Linear([Id; 2]),
    /// `f(x·Gᵀ + g) ⊙ (x·Uᵀ + u)` with operands `x, G, U` and perhaps `g, u`.
    Gated(UnaryOp, Vec<Id>),
}

impl Expr {
    /// A scalar constant.
    pub fn number(value: f64) -> Expr {
        Expr::Number(value.to_bits())
    }
}

impl Language for Expr {
    type Discriminant = Expr;

    fn discriminant(&self) -> Expr {
        let mut same = self.clone();
        same.children_mut().iter_mut().for_each(|c| *c = Id::from(0));
        same
    }
    fn matches(&self, other: &Expr) -> bool {
        match (self, other) {
            (Expr::Number(a), Expr::Number(b)) => a == b,
            (Expr::Leaf(a), Expr::Leaf(b)) => a == b,
            (Expr::Unary(a, _), Expr::Unary(b, _)) => a == b,
            (Expr::Binary(a, _), Expr::Binary(b, _)) => a == b,
            (Expr::Select(_), Expr::Select(_)) | (Expr::Linear(_), Expr::Linear(_)) => true,
            (Expr::Gated(a, x), Expr::Gated(b, y)) => a == b && x.len() == y.len(),
            _ => false,
        }
    }
    fn children(&self) -> &[Id] {
        match self {
            Expr::Number(_) | Expr::Leaf(_) => &[],
            Expr::Unary(_, c) => c,
            Expr::Binary(_, c) | Expr::Linear(c) => c,
            Expr::Select(c) => c,
            Expr::Gated(_, c) => c,
        }
    }
    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Expr::Number(_) | Expr::Leaf(_) => &mut [],
            Expr::Unary(_, c) => c,
            Expr::Binary(_, c) | Expr::Linear(c) => c,
            Expr::Select(c) => c,
            Expr::Gated(_, c) => c,
        }
    }
}

/// Patterns name functions as the text form does; `gated_silu` is gating with SiLU.
impl FromOp for Expr {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Expr, FromOpError> {
        let unary = |name: &str| UnaryOp::from_name(name);
        match (children.as_slice(), op) {
            ([], op) if op.parse::<f64>().is_ok() => Ok(Expr::number(op.parse().unwrap_or_default())),
            (&[x, w], "linear") => Ok(Expr::Linear([x, w])),
            (&[c, a, b], "select") => Ok(Expr::Select([c, a, b])),
            _ => match (
                children.as_slice(),
                unary(op),
                BinaryOp::from_name(op),
                op.strip_prefix("gated_").and_then(unary),
            ) {
                (&[x], Some(f), _, _) => Ok(Expr::Unary(f, [x])),
                (&[a, b], _, Some(f), _) => Ok(Expr::Binary(f, [a, b])),
                (_, _, _, Some(f)) => Ok(Expr::Gated(f, children)),
                _ => Err(FromOpError::new(op, children)),
            },
        }
    }
}

/// Knows the shapes of leaves; derives shapes and constants.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    /// Shape of each leaf.
    pub leaves: Vec<Vec<Dim>>,
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its shape.
    pub shape: Vec<Dim>,
    /// Its value, if it is a scalar constant.
    pub constant: Option<f64>,
}

/// The e-graph of a region's arithmetic.
pub type EGraph = egg::EGraph<Expr, Shapes>;

/// Shape of a node from those of its children.
pub fn shape(egraph: &EGraph, node: &Expr) -> Vec<Dim> {
    let of = |id: &Id| egraph[*id].data.shape.clone();
    match node {
        Expr::Number(_) => vec![],
        Expr::Leaf(i) => egraph.analysis.leaves[*i].clone(),
        Expr::Linear([x, w]) => with_width(of(x), of(w)),
        Expr::Gated(_, c) => with_width(of(&c[0]), of(&c[1])),
        other => {
            let types: Vec<Type> = other.children().iter().map(|c| Type::f32(of(c))).collect();
            broadcast_shapes(&types.iter().collect::<Vec<_>>()).unwrap_or_default()
        }
    }
}

/// `[.., k]` with a weight `[n, k]` gives `[.., n]`.
fn with_width(mut x: Vec<Dim>, weight: Vec<Dim>) -> Vec<Dim> {
    if let (Some(last), Some(width)) = (x.last_mut(), weight.first()) {
        *last = width.clone();
    }
    x
}

impl Analysis<Expr> for Shapes {
    type Data = Facts;

    fn make(egraph: &mut EGraph, node: &Expr, _: Id) -> Facts {
        let constant = |id: &Id| egraph[*id].data.constant;
        let value = match node {
            Expr::Number(bits) => Some(f64::from_bits(*bits)),
            Expr::Unary(f, [x]) => constant(x).map(|x| f.f64(x)),
            Expr::Binary(f, [a, b]) => constant(a).zip(constant(b)).map(|(a, b)| f.f64(a, b)),
            _ => None,
        };
        Facts { shape: shape(egraph, node), constant: value.filter(|v| v.is_finite()) }
    }
    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        debug_assert_eq!(a.shape, b.shape, "equal expressions have equal shapes");
        egg::merge_option(&mut a.constant, b.constant, |_, _| DidMerge(false, false))
    }
    fn modify(egraph: &mut EGraph, id: Id) {
        if let Some(value) = egraph[id].data.constant {
            let number = egraph.add(Expr::number(value));
            egraph.union(id, number);
        }
    }
}
