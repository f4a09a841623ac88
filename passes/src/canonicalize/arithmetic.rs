//! Arithmetic that does nothing, and one spelling for what has several.

use castiron_ir::op::{Binary, BinaryOp, Cast, Op, Unary, UnaryOp};
use castiron_ir::{DType, Value};

use super::{Rule, Site, splat};

/// The rules of functions of one number.
pub(super) const UNARY: &[Rule] = &[
    // -(-x) = x, ¬¬x = x
    |s| match (&s.op, s.operands[0].producer()?) {
        (Op::Unary(outer), (Op::Unary(inner), x)) if *outer == inner && is_involution(outer.0) => Some(x[0].clone()),
        _ => None,
    },
    // 1/√x = rsqrt x
    |s| match (&s.op, s.operands[0].producer()?) {
        (Op::Unary(Unary(UnaryOp::Reciprocal)), (Op::Unary(Unary(UnaryOp::Sqrt)), x)) => {
            Some(x[0].unary(UnaryOp::Rsqrt))
        }
        _ => None,
    },
];

fn is_involution(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Neg | UnaryOp::Not)
}

/// The rules of functions of two numbers.
pub(super) const BINARY: &[Rule] = &[identity, inverse, power, division, sorted, unbroadcast];

/// `x+0, x-0, x·1, x/1, x^1, x∧true, x∨false = x`
fn identity(s: &Site) -> Option<Value> {
    let Op::Binary(Binary(op)) = s.op else { return None };
    let neutral = match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Or => 0.0,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow | BinaryOp::And => 1.0,
        _ => return None,
    };
    if splat(&s.operands[1]) == Some(neutral) {
        return s.keep(0);
    }
    (op.is_commutative() && splat(&s.operands[0]) == Some(neutral)).then(|| s.keep(1)).flatten()
}

/// `0-x = -x`, `1/x = reciprocal x`, `x/√y = x·rsqrt y`
fn inverse(s: &Site) -> Option<Value> {
    let [x, y] = &s.operands[..] else { return None };
    match s.op {
        Op::Binary(Binary(BinaryOp::Sub)) if splat(x) == Some(0.0) && y.ty() == s.ty => Some(-y.clone()),
        Op::Binary(Binary(BinaryOp::Div)) if s.ty.dtype.is_float() => {
            if splat(x) == Some(1.0) && y.ty() == s.ty {
                return Some(y.unary(UnaryOp::Reciprocal));
            }
            match y.producer()? {
                (Op::Unary(Unary(UnaryOp::Sqrt)), root) => Some(x * root[0].unary(UnaryOp::Rsqrt)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `x² = x·x`, `x³ = x·x·x`, `x^½ = √x`, `x^-½ = rsqrt x`, `x^-1 = reciprocal x`
fn power(s: &Site) -> Option<Value> {
    let (Op::Binary(Binary(BinaryOp::Pow)), [x, exponent]) = (&s.op, &s.operands[..]) else { return None };
    if x.ty() != s.ty || !s.ty.dtype.is_float() {
        return None;
    }
    let exponent = splat(exponent)?;
    match exponent {
        2.0 => Some(x * x),
        3.0 => Some((x * x) * x),
        0.5 => Some(x.unary(UnaryOp::Sqrt)),
        -0.5 => Some(x.unary(UnaryOp::Rsqrt)),
        -1.0 => Some(x.unary(UnaryOp::Reciprocal)),
        _ => None,
    }
}

/// `x/c = x·(1/c)` where `1/c` is exact: c a power of two
fn division(s: &Site) -> Option<Value> {
    let (Op::Binary(Binary(BinaryOp::Div)), [x, c]) = (&s.op, &s.operands[..]) else { return None };
    let c = splat(c).filter(|c| s.ty.dtype.is_float() && c.is_normal())?;
    let power_of_two = c.abs().log2().fract() == 0.0 && c.abs().log2().abs() < 100.0;
    let wide = matches!(s.ty.dtype, DType::F32 | DType::F64);
    (power_of_two && wide && x.ty() == s.ty).then(|| x * (1.0 / c))
}

/// Operands of a commutative op: constants last, else in order of definition.
fn sorted(s: &Site) -> Option<Value> {
    let (Op::Binary(Binary(op)), [a, b]) = (&s.op, &s.operands[..]) else { return None };
    let key = |v: &Value| (splat(v).is_some(), v.id());
    (op.is_commutative() && key(a) > key(b)).then(|| b.binary(*op, a))
}

/// `f(broadcast x, y) = f(x, y)`, since elementwise ops broadcast themselves
fn unbroadcast(s: &Site) -> Option<Value> {
    let Op::Binary(Binary(op)) = s.op else { return None };
    for i in 0..2 {
        if let Some((Op::Broadcast(_), inner)) = s.operands[i].producer() {
            let mut operands = s.operands.clone();
            operands[i] = inner[0].clone();
            let types = [operands[0].ty(), operands[1].ty()];
            if castiron_ir::op::broadcast_shapes(&[&types[0], &types[1]]).is_ok_and(|shape| shape == s.ty.shape) {
                return Some(operands[0].binary(op, &operands[1]));
            }
        }
    }
    None
}

/// The rules of selection.
pub(super) const SELECT: &[Rule] = &[
    // true ? a : b = a, false ? a : b = b
    |s| s.keep(if splat(&s.operands[0])? != 0.0 { 1 } else { 2 }),
    // c ? a : a = a
    |s| if s.operands[1].id() == s.operands[2].id() { s.keep(1) } else { None },
    // ¬c ? a : b = c ? b : a
    |s| match s.operands[0].producer()? {
        (Op::Unary(Unary(UnaryOp::Not)), c) => Some(c[0].select(&s.operands[2], &s.operands[1])),
        _ => None,
    },
];

/// The rules of conversion.
pub(super) const CAST: &[Rule] = &[
    // conversion to x's own type = x
    |s| s.keep(0),
    // a bool or a small integer converted by way of a type that holds it exactly
    |s| match (&s.op, s.operands[0].producer()?) {
        (Op::Cast(Cast { to }), (Op::Cast(Cast { to: through }), x)) if is_lossless(x[0].ty().dtype, through) => {
            Some(x[0].cast(*to))
        }
        _ => None,
    },
];

/// Whether every value of one element type is a value of another.
fn is_lossless(from: DType, to: DType) -> bool {
    use DType::*;
    match from {
        Bool => true,
        U8 | I8 => matches!(to, I32 | I64 | F32 | F64) || from == to,
        F16 | BF16 => matches!(to, F32 | F64) || from == to,
        I32 => matches!(to, I64 | F64 | I32),
        F32 => matches!(to, F64 | F32),
        I64 | F64 => from == to,
    }
}
