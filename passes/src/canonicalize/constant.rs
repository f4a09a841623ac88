//! Values that are known at compile time.

use std::collections::HashMap;

use castiron_ir::interpret::{Binding, Frame};
use castiron_ir::op::{Constant, Op};
use castiron_ir::{OpDef, Tensor, Type, Value};

use super::{Rule, Site, splat};

/// Results with more elements stay computed: an artifact shall not hold what is cheap to make.
const LARGEST: i64 = 256;

/// The rules of leaves.
pub(super) const LEAF: &[Rule] = &[
    // iota along an axis of extent 1 = 0
    |s| match &s.op {
        Op::Iota(iota) if iota.ty.shape[iota.axis].as_constant() == Some(1) => Some(s.constant(vec![0.0])),
        _ => None,
    },
    // extent of=n, n a number = n
    |s| match &s.op {
        Op::Extent(extent) => extent.of.as_constant().map(|n| s.constant(vec![n as f64])),
        _ => None,
    },
];

/// The rules of every op.
pub(super) const ANY: &[Rule] = &[elementwise, moved, small];

/// `f(c, ..)` of constants that are the same everywhere is a constant that is the same everywhere.
fn elementwise(s: &Site) -> Option<Value> {
    if !matches!(s.op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_)) {
        return None;
    }
    let scalar = |c: &Constant| c.splat().map(|v| Tensor::scalar(c.ty.dtype, v));
    evaluate(&s.op, &constants(s, scalar)?).map(|v| s.constant(v))
}

/// A constant that is the same everywhere stays so under movement.
fn moved(s: &Site) -> Option<Value> {
    if !matches!(s.op, Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_)) {
        return None;
    }
    splat(&s.operands[0]).map(|v| s.constant(vec![v]))
}

/// `f(constants)` is its value, if that has few elements.
fn small(s: &Site) -> Option<Value> {
    let is_small = |ty: &Type| ty.elements().as_constant().is_some_and(|n| n <= LARGEST);
    let tensor = |c: &Constant| is_small(&c.ty).then(|| evaluate_one(&Op::Constant(c.clone()), &[])).flatten();
    let tensors = constants(s, tensor)?;
    if !is_small(&s.ty) {
        return None;
    }
    evaluate(&s.op, &tensors).map(|v| s.constant(v))
}

/// Each operand as a tensor, if there are operands and all are constants.
fn constants(s: &Site, tensor: impl Fn(&Constant) -> Option<Tensor>) -> Option<Vec<Tensor>> {
    let of = |value: &Value| match value.producer()? {
        (Op::Constant(c), _) => tensor(&c),
        _ => None,
    };
    if s.operands.is_empty() { None } else { s.operands.iter().map(of).collect() }
}

/// Elements of an op's value, one alone where all are equal.
fn evaluate(op: &Op, operands: &[Tensor]) -> Option<Vec<f64>> {
    let data = evaluate_one(op, operands)?.data;
    let first = *data.first()?;
    Some(if data.iter().all(|&v| v == first) { vec![first] } else { data })
}

fn evaluate_one(op: &Op, operands: &[Tensor]) -> Option<Tensor> {
    let (binding, mut states) = (Binding::new(), HashMap::new());
    let mut frame = Frame::new(&|_| None, &binding, &mut states);
    let results = op.evaluate(&operands.iter().collect::<Vec<_>>(), &mut frame).ok()?;
    results.into_iter().next()
}
