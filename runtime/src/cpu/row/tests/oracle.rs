//! An obvious evaluator in double precision that also bounds the error of single precision.
//!
//! Each value carries how far a faithful f32 evaluation may be from it: the effect of the operands'
//! errors, found by evaluating at the ends of their intervals, plus the function's own error. Where
//! that is much, as after a comparison that may go either way, the value is unknown from there on.

use castiron_ir::op::{BinaryOp, UnaryOp};

use crate::program::row::{Access, RowNode, RowNodeId, RowProgram, RowReduce};

/// A value with the largest error that is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded {
    pub(super) value: f64,
    pub(super) error: f64,
}

/// Relative error of a function: a few ulp.
const RELATIVE: f64 = 8.0 * 6e-8;
/// Absolute error of a function of ordinary size.
const ABSOLUTE: f64 = 1e-6;

/// A value about which nothing is known.
const UNKNOWN: Bounded = Bounded { value: f64::NAN, error: f64::NAN };
/// Error beyond which functions are not followed, relative to the value or to 1.
const LARGE: f64 = 1e-2;

impl Bounded {
    fn exact(value: f32) -> Bounded {
        Bounded { value: value.into(), error: 0.0 }
    }

    /// `value` with its own rounding beside a propagated `error`.
    fn rounded(value: f64, error: f64) -> Bounded {
        if error.is_nan() || error > LARGE * value.abs().max(1.0) {
            return UNKNOWN;
        }
        Bounded { value, error: error + RELATIVE * value.abs() + f64::from(f32::MIN_POSITIVE) }
    }

    /// Whether a test against 0 may go either way.
    fn may_be_zero_or_not(self) -> bool {
        self.error > 0.0 && self.value.abs() <= self.error
    }

    fn ends(self) -> [f64; 3] {
        [self.value, self.value - self.error, self.value + self.error]
    }

    /// Whether a result may be this value: always, if the value is not known well enough.
    pub(super) fn allows(self, result: f32) -> bool {
        let result = f64::from(result);
        let is_unknown = !self.error.is_finite() || !self.value.is_finite() || self.value.abs() > 1e37;
        is_unknown || (result - self.value).abs() <= 1.01 * self.error
    }
}

/// All outputs of a program.
pub(super) fn evaluate(program: &RowProgram, inputs: &[Vec<f32>], n: usize) -> Vec<Vec<Bounded>> {
    let mut values: Vec<Vec<Bounded>> = Vec::with_capacity(program.nodes.len());
    for node in &program.nodes {
        let of = |id: RowNodeId, i: usize| *values[usize::from(id)].get(i).unwrap_or(&values[usize::from(id)][0]);
        let row = |f: &dyn Fn(usize) -> Bounded| (0..n.max(1)).map(f).collect::<Vec<_>>();
        let value = match *node {
            RowNode::Input(input) => match program.inputs[usize::from(input)] {
                Access::Element => inputs[usize::from(input)][..n].iter().map(|&x| Bounded::exact(x)).collect(),
                Access::Uniform => vec![Bounded::exact(inputs[usize::from(input)][0])],
            },
            RowNode::Constant(c) => vec![Bounded::exact(c)],
            RowNode::Position => (0..n).map(|i| Bounded::exact(i as f32)).collect(),
            RowNode::Length => vec![Bounded::exact(n as f32)],
            RowNode::Reduce(kind, x) => vec![reduce(kind, (0..n).map(|i| of(x, i)))],
            _ if n == 0 && node.operands().any(|o| values[usize::from(o)].is_empty()) => Vec::new(),
            RowNode::Unary(op, x) => row(&|i| unary(op, of(x, i))),
            RowNode::Binary(op, a, b) => row(&|i| binary(op, of(a, i), of(b, i))),
            RowNode::Select(c, a, b) => row(&|i| select(of(c, i), of(a, i), of(b, i))),
        };
        values.push(value);
    }
    let levels = program.levels();
    let output = |&id: &RowNodeId| {
        let mut row = values[usize::from(id)].clone();
        row.truncate(if levels[usize::from(id)].varies { n } else { 1 });
        row
    };
    program.stores.iter().map(output).collect()
}

fn unary(op: UnaryOp, x: Bounded) -> Bounded {
    if x.error.is_nan() || op == UnaryOp::Not && x.may_be_zero_or_not() {
        return UNKNOWN;
    }
    let value = op.f64(x.value);
    let spread = x.ends().map(|end| (op.f64(end) - value).abs()).into_iter().fold(0.0, worst);
    let steps = matches!(op, UnaryOp::Floor | UnaryOp::Round | UnaryOp::Sign | UnaryOp::Not | UnaryOp::Relu);
    let own = if steps || matches!(op, UnaryOp::Neg | UnaryOp::Abs) { 0.0 } else { ABSOLUTE * value.abs().min(1.0) };
    let large = matches!(op, UnaryOp::Gelu | UnaryOp::GeluTanh | UnaryOp::Sin | UnaryOp::Cos);
    Bounded::rounded(value, spread + own + if large { ABSOLUTE * x.value.abs().max(1.0) } else { 0.0 })
}

fn binary(op: BinaryOp, a: Bounded, b: Bounded) -> Bounded {
    let value = op.f64(a.value, b.value);
    let difference = Bounded { value: a.value - b.value, error: a.error + b.error };
    let is_unknown = match op {
        BinaryOp::Eq | BinaryOp::Ne => difference.may_be_zero_or_not(),
        BinaryOp::And | BinaryOp::Or => a.may_be_zero_or_not() || b.may_be_zero_or_not(),
        _ => false,
    };
    if is_unknown || difference.error.is_nan() {
        return UNKNOWN;
    }
    let mut spread = 0.0;
    for x in a.ends() {
        for y in b.ends() {
            spread = worst(spread, (op.f64(x, y) - value).abs());
        }
    }
    if op == BinaryOp::Mod {
        // The quotient is rounded before its floor, which may then be another.
        let quotient = a.value / b.value;
        let doubt = (a.error + quotient.abs() * b.error) / (b.value.abs() - b.error).max(0.0) + 1e-5 * quotient.abs();
        let is_near_step = (quotient - quotient.round()).abs() <= doubt || doubt.is_nan();
        spread += if is_near_step { b.value.abs() + b.error } else { 1e-6 * a.value.abs() };
    }
    if op == BinaryOp::Div || op == BinaryOp::Mul {
        spread += f64::from(f32::MIN_POSITIVE);
    }
    Bounded::rounded(value, spread)
}

fn select(c: Bounded, a: Bounded, b: Bounded) -> Bounded {
    if c.may_be_zero_or_not() || c.error.is_nan() {
        return UNKNOWN;
    }
    if c.value != 0.0 { a } else { b }
}

fn reduce(kind: RowReduce, row: impl Iterator<Item = Bounded>) -> Bounded {
    match kind {
        RowReduce::Sum => row.fold(Bounded { value: 0.0, error: 0.0 }, |sum, x| Bounded {
            value: sum.value + x.value,
            error: sum.error + x.error + RELATIVE * (sum.value.abs() + x.value.abs()),
        }),
        RowReduce::Max => row.fold(Bounded { value: f64::NEG_INFINITY, error: 0.0 }, |m, x| Bounded {
            value: m.value.max(x.value),
            error: worst(m.error, x.error),
        }),
        RowReduce::Min => row.fold(Bounded { value: f64::INFINITY, error: 0.0 }, |m, x| Bounded {
            value: m.value.min(x.value),
            error: worst(m.error, x.error),
        }),
    }
}

/// The larger, and NaN if one is.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
