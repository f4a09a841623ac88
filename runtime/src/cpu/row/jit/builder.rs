//! Builder of vector code: finds common subexpressions and moves invariant ones out of the loop
//! while ops are appended.

use std::collections::HashMap;

use super::vector::{Block, Fused, Lane1, Lane2, Predicate, Row, Value, VectorOp};

/// Operand of an op under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Val {
    /// Bits of a constant.
    Constant(u32),
    /// Frame slot that an earlier phase filled.
    Kept(u16),
    /// Value of the preamble.
    Invariant(Value),
    /// Value of the loop body.
    Varying(Value),
}

impl Val {
    /// A float constant.
    pub(super) fn float(x: f32) -> Val {
        Val::Constant(x.to_bits())
    }

    /// The float, if the value is a constant.
    pub(super) fn as_float(self) -> Option<f32> {
        match self {
            Val::Constant(bits) => Some(f32::from_bits(bits)),
            _ => None,
        }
    }

    /// Whether the value differs from element to element.
    pub(super) fn varies(self) -> bool {
        matches!(self, Val::Varying(_))
    }
}

/// A block whose equal ops are one op.
#[derive(Default)]
struct Numbered {
    ops: Block,
    seen: HashMap<VectorOp, Value>,
}

impl Numbered {
    fn value(&mut self, op: VectorOp) -> Value {
        let op = match op {
            VectorOp::Two(o, a, b) if o.is_commutative() && a > b => VectorOp::Two(o, b, a),
            op => op,
        };
        *self.seen.entry(op).or_insert_with(|| {
            self.ops.push(op);
            (self.ops.len() - 1) as Value
        })
    }
}

/// Builds the preamble and the loop body of one phase after another.
#[derive(Default)]
pub(super) struct Builder {
    preamble: Numbered,
    body: Numbered,
    kept: HashMap<Value, u16>,
    slots: u16,
}

impl Builder {
    /// Preamble and body of the phase; the next one begins.
    pub(super) fn finish_phase(&mut self) -> (Block, Block) {
        self.kept.clear();
        (std::mem::take(&mut self.preamble).ops, std::mem::take(&mut self.body).ops)
    }

    /// Number of frame slots in use.
    pub(super) fn slots(&self) -> u16 {
        self.slots
    }

    /// A new frame slot.
    pub(super) fn new_slot(&mut self) -> u16 {
        self.slots += 1;
        self.slots - 1
    }

    /// The frame slot that holds the invariant `x` from here on.
    pub(super) fn keep(&mut self, x: Val) -> u16 {
        if let Val::Kept(slot) = x {
            return slot;
        }
        let value = self.in_preamble(x);
        if let Some(&slot) = self.kept.get(&value) {
            return slot;
        }
        let slot = self.new_slot();
        self.preamble.ops.push(VectorOp::Keep { slot, value });
        self.kept.insert(value, slot);
        slot
    }

    /// An op without operands that is the same for all elements.
    pub(super) fn invariant(&mut self, op: VectorOp) -> Val {
        Val::Invariant(self.preamble.value(op))
    }

    /// An op without operands that varies along the row.
    pub(super) fn varying(&mut self, op: VectorOp) -> Val {
        Val::Varying(self.body.value(op))
    }

    /// Any operation of one operand.
    pub(super) fn one(&mut self, op: Lane1, x: Val) -> Val {
        self.apply([x], |[x]| VectorOp::One(op, x))
    }

    /// Any operation of two operands.
    pub(super) fn two(&mut self, op: Lane2, a: Val, b: Val) -> Val {
        self.apply([a, b], |[a, b]| VectorOp::Two(op, a, b))
    }

    /// `a + b`
    pub(super) fn add(&mut self, a: Val, b: Val) -> Val {
        self.two(Lane2::Add, a, b)
    }

    /// `a - b`
    pub(super) fn sub(&mut self, a: Val, b: Val) -> Val {
        self.two(Lane2::Sub, a, b)
    }

    /// `a · b`
    pub(super) fn mul(&mut self, a: Val, b: Val) -> Val {
        self.two(Lane2::Mul, a, b)
    }

    /// `a / b`
    pub(super) fn div(&mut self, a: Val, b: Val) -> Val {
        self.two(Lane2::Div, a, b)
    }

    /// `x · c`
    pub(super) fn scale(&mut self, x: Val, c: f32) -> Val {
        self.mul(x, Val::float(c))
    }

    /// `-x`
    pub(super) fn neg(&mut self, x: Val) -> Val {
        self.two(Lane2::Xor, x, Val::float(-0.0))
    }

    /// `|x|`
    pub(super) fn abs(&mut self, x: Val) -> Val {
        self.two(Lane2::And, x, Val::Constant(0x7fff_ffff))
    }

    /// Mask of a comparison.
    pub(super) fn compare(&mut self, p: Predicate, a: Val, b: Val) -> Val {
        self.two(Lane2::Compare(p), a, b)
    }

    /// `a·b + c`
    pub(super) fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        self.fused(Fused::MulAdd, a, b, c)
    }

    /// Product and sum with one rounding.
    pub(super) fn fused(&mut self, op: Fused, a: Val, b: Val, c: Val) -> Val {
        self.apply([a, b, c], |[a, b, c]| VectorOp::Fma(op, a, b, c))
    }

    /// `yes` where `mask` is set, else `no`.
    pub(super) fn blend(&mut self, mask: Val, yes: Val, no: Val) -> Val {
        self.apply([no, yes, mask], |[no, yes, mask]| VectorOp::Blend { no, yes, mask })
    }

    /// `Σ coefficients[i]·xⁱ` by Horner's rule on pairs in `x²`: half the latency of the plain rule
    /// for one more product.
    pub(super) fn polynomial(&mut self, x: Val, coefficients: &[f32]) -> Val {
        let mut pairs = coefficients.chunks(2).rev();
        let highest = pairs.next().expect("a polynomial has a coefficient");
        let mut sum = self.pair(x, highest);
        if pairs.len() == 0 {
            return sum;
        }
        let square = self.mul(x, x);
        for pair in pairs {
            let pair = self.pair(x, pair);
            sum = self.fma(sum, square, pair);
        }
        sum
    }

    fn pair(&mut self, x: Val, coefficients: &[f32]) -> Val {
        let constant = Val::float(coefficients[0]);
        match coefficients.get(1) {
            Some(&c) => self.fma(x, Val::float(c), constant),
            None => constant,
        }
    }

    /// Appends the store of `x` to the elements of a row.
    pub(super) fn store(&mut self, row: Row, x: Val) {
        let value = self.in_body(x);
        self.body.ops.push(VectorOp::Store { row, copy: 0, value });
    }

    /// Appends `accumulator = x ⊕ accumulator`. The order makes `Max` and `Min` skip a NaN.
    pub(super) fn accumulate(&mut self, reduction: u16, op: Lane2, x: Val) {
        let x = self.in_body(x);
        self.update(reduction, |so_far| VectorOp::Two(op, x, so_far));
    }

    /// Appends `accumulator = a·b + accumulator`.
    pub(super) fn accumulate_product(&mut self, reduction: u16, a: Val, b: Val) {
        let (a, b) = (self.in_body(a), self.in_body(b));
        self.update(reduction, |so_far| VectorOp::Fma(Fused::MulAdd, a, b, so_far));
    }

    fn update(&mut self, reduction: u16, op: impl FnOnce(Value) -> VectorOp) {
        let so_far = self.body.value(VectorOp::Accumulator { reduction, copy: 0 });
        let value = self.body.value(op(so_far));
        self.body.ops.push(VectorOp::Accumulate { reduction, copy: 0, value });
    }

    /// Appends an op to the body if an operand varies, to the preamble otherwise.
    fn apply<const N: usize>(&mut self, operands: [Val; N], op: impl FnOnce([Value; N]) -> VectorOp) -> Val {
        if operands.iter().any(|v| v.varies()) {
            let operands = operands.map(|v| self.in_body(v));
            Val::Varying(self.body.value(op(operands)))
        } else {
            let operands = operands.map(|v| self.in_preamble(v));
            Val::Invariant(self.preamble.value(op(operands)))
        }
    }

    fn in_preamble(&mut self, v: Val) -> Value {
        match v {
            Val::Constant(bits) => self.preamble.value(VectorOp::Constant(bits)),
            Val::Kept(slot) => self.preamble.value(VectorOp::Kept(slot)),
            Val::Invariant(value) => value,
            Val::Varying(_) => unreachable!("a varying value is not used in the preamble"),
        }
    }

    fn in_body(&mut self, v: Val) -> Value {
        let slot = match v {
            Val::Varying(value) => return value,
            Val::Constant(bits) => return self.body.value(VectorOp::Constant(bits)),
            invariant => self.keep(invariant),
        };
        self.body.value(VectorOp::Kept(slot))
    }
}
