//! Expansion of scalar functions into primitive lanes.
//!
//! Largest error of each function that is not exact, against [`UnaryOp::f64`] over its domain; the
//! test `accuracy` sweeps it:
//!
//! | function | error | remark |
//! |---|---|---|
//! | exp | 1.5 ulp | 0 below e^-86.99 (no subnormal results) |
//! | log, log1p | 1.5 ulp | subnormal arguments included |
//! | tanh | 5 ulp | rational, no cancellation near 0 |
//! | erf | 5 ulp | 3e-7 absolute |
//! | sin, cos | 1e-7 absolute | up to 1e5; 3 ulp where the result is above 1e-3 |
//! | sigmoid, silu | 3.5 ulp | 0 below -86.99 |
//! | gelu | 4e-7·\|x\| absolute | |
//! | gelu_tanh | 2e-7·\|x\| absolute | relative error is small too: `x·σ(2u)` does not cancel |
//! | softplus | 3 ulp | |
//! | pow | 6 ulp | finite arguments |
//! | rsqrt | 1 ulp | |

mod circular;
mod exponential;
mod logarithm;

use castiron_ir::op::{BinaryOp, UnaryOp};

use super::builder::{Builder, Val};
use super::vector::{Fused, Lane1, Lane2, Predicate};

const ONE: Val = Val::Constant(0x3f80_0000);
const ZERO: Val = Val::Constant(0);
const SIGN: Val = Val::Constant(0x8000_0000);

/// The value of `op` at `x`.
pub(super) fn unary(b: &mut Builder, op: UnaryOp, x: Val) -> Val {
    match op {
        UnaryOp::Neg => b.neg(x),
        UnaryOp::Abs => b.abs(x),
        UnaryOp::Exp => exponential::exp(b, x),
        UnaryOp::Log => logarithm::log(b, x),
        UnaryOp::Log1p => logarithm::log1p(b, x),
        UnaryOp::Sqrt => b.one(Lane1::Sqrt, x),
        UnaryOp::Rsqrt => {
            let root = b.one(Lane1::Sqrt, x);
            b.div(ONE, root)
        }
        UnaryOp::Reciprocal => b.div(ONE, x),
        UnaryOp::Sin => circular::sin(b, x),
        UnaryOp::Cos => circular::cos(b, x),
        UnaryOp::Tanh => exponential::tanh(b, x),
        UnaryOp::Erf => exponential::erf(b, x),
        UnaryOp::Floor => b.one(Lane1::Floor, x),
        UnaryOp::Round => b.one(Lane1::RoundEven, x),
        UnaryOp::Sign => sign(b, x),
        UnaryOp::Not => {
            let mask = b.compare(Predicate::Equal, x, ZERO);
            truth(b, mask)
        }
        UnaryOp::Relu => b.two(Lane2::Max, x, ZERO),
        UnaryOp::Relu2 => {
            let positive = b.two(Lane2::Max, x, ZERO);
            b.mul(positive, positive)
        }
        UnaryOp::Sigmoid => exponential::times_sigmoid(b, ONE, x),
        UnaryOp::Silu => exponential::times_sigmoid(b, x, x),
        UnaryOp::Gelu => exponential::gelu(b, x),
        UnaryOp::GeluTanh => exponential::gelu_tanh(b, x),
        UnaryOp::Softplus => logarithm::softplus(b, x),
    }
}

/// The value of `op` at `x`, `y`.
pub(super) fn binary(b: &mut Builder, op: BinaryOp, x: Val, y: Val) -> Val {
    match op {
        BinaryOp::Add => b.add(x, y),
        BinaryOp::Sub => b.sub(x, y),
        BinaryOp::Mul => b.mul(x, y),
        BinaryOp::Div => divide(b, x, y),
        BinaryOp::Pow => logarithm::pow(b, x, y),
        BinaryOp::Max => extremum(b, Lane2::Max, x, y),
        BinaryOp::Min => extremum(b, Lane2::Min, x, y),
        BinaryOp::Mod => {
            let quotient = b.div(x, y);
            let whole = b.one(Lane1::Floor, quotient);
            b.fused(Fused::NegMulAdd, y, whole, x)
        }
        BinaryOp::And | BinaryOp::Or => {
            let (x, y) = (is_true(b, x), is_true(b, y));
            let mask = b.two(if op == BinaryOp::And { Lane2::And } else { Lane2::Or }, x, y);
            truth(b, mask)
        }
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
            let mask = b.compare(comparison(op).expect("a comparison"), x, y);
            truth(b, mask)
        }
    }
}

/// The predicate that an operator stands for.
pub(super) fn comparison(op: BinaryOp) -> Option<Predicate> {
    match op {
        BinaryOp::Eq => Some(Predicate::Equal),
        BinaryOp::Ne => Some(Predicate::NotEqual),
        BinaryOp::Lt => Some(Predicate::Less),
        BinaryOp::Le => Some(Predicate::LessEqual),
        BinaryOp::Gt => Some(Predicate::Greater),
        BinaryOp::Ge => Some(Predicate::GreaterEqual),
        _ => None,
    }
}

/// 1 where the mask is set, else 0.
pub(super) fn truth(b: &mut Builder, mask: Val) -> Val {
    b.two(Lane2::And, mask, ONE)
}

/// Mask of the lanes that are not 0; NaN is true.
pub(super) fn is_true(b: &mut Builder, x: Val) -> Val {
    b.compare(Predicate::NotEqual, x, ZERO)
}

/// `x / y`; an invariant divisor is inverted once, which costs half an ulp, and the range of
/// divisors below 3e-39.
fn divide(b: &mut Builder, x: Val, y: Val) -> Val {
    if x.varies() && !y.varies() {
        let inverse = b.div(ONE, y);
        return b.mul(x, inverse);
    }
    b.div(x, y)
}

/// Larger or smaller, and the other one if one is NaN. The instruction gives its second operand
/// when either is NaN, so only a second operand that may be NaN needs mending.
fn extremum(b: &mut Builder, op: Lane2, x: Val, y: Val) -> Val {
    let is_number = |v: Val| v.as_float().is_some_and(|c| !c.is_nan());
    let (x, y) = if is_number(x) { (y, x) } else { (x, y) };
    let picked = b.two(op, x, y);
    if is_number(y) {
        return picked;
    }
    let nan = b.compare(Predicate::Unordered, y, y);
    b.blend(nan, x, picked)
}

/// `x` limited to `low ..= high`; NaN stays.
fn clamp(b: &mut Builder, x: Val, low: f32, high: f32) -> Val {
    let x = b.two(Lane2::Max, Val::float(low), x);
    b.two(Lane2::Min, Val::float(high), x)
}

fn sign(b: &mut Builder, x: Val) -> Val {
    let above = b.compare(Predicate::Greater, x, ZERO);
    let below = b.compare(Predicate::Less, x, ZERO);
    let (above, below) = (truth(b, above), truth(b, below));
    b.sub(above, below)
}
