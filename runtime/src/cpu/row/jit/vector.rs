//! Vector code: straight-line SSA over eight f32 lanes.
//!
//! This is the language between a row program and machine code. A [`Block`] has no control flow;
//! its loop is made by the emitter. Booleans are masks (all bits of a lane set or clear) and
//! integers are 32-bit lanes; both live in the same registers as floats.

/// Ops in evaluation order.
pub(super) type Block = Vec<VectorOp>;

/// Index of an op within its block, and the value that it defines.
pub(super) type Value = u32;

/// Memory with one f32 for each element of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    /// Element input.
    Input(u16),
    /// Element output: the destination of stores, and a place for values between phases.
    Output(u16),
}

/// Operation of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane1 {
    /// `√x`
    Sqrt,
    /// Largest integer ≤ x.
    Floor,
    /// Nearest integer, ties to even.
    RoundEven,
    /// Signed integer to float.
    ToFloat,
    /// Integer shift left.
    ShiftLeft(u8),
    /// Integer shift right that repeats the sign.
    ShiftRight(u8),
}

/// Operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane2 {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
    /// `a > b ? a : b`, so `b` if one is NaN.
    Max,
    /// `a < b ? a : b`, so `b` if one is NaN.
    Min,
    /// Bits of both.
    And,
    /// Bits of either.
    Or,
    /// Bits of one only.
    Xor,
    /// Integer sum.
    AddInt,
    /// Integer difference.
    SubInt,
    /// Mask of the lanes where the comparison holds.
    Compare(Predicate),
}

impl Lane2 {
    /// Whether the operands may be exchanged.
    pub(super) fn is_commutative(self) -> bool {
        use Lane2::*;
        matches!(self, Add | Mul | And | Or | Xor | AddInt | Compare(Predicate::Equal | Predicate::NotEqual))
    }
}

/// Comparison of floats. Only the last three hold for a NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Predicate {
    /// `a = b`
    Equal,
    /// `a < b`
    Less,
    /// `a ≤ b`
    LessEqual,
    /// `a > b`
    Greater,
    /// `a ≥ b`
    GreaterEqual,
    /// `a ≠ b`, or NaN.
    NotEqual,
    /// Less, or NaN.
    NotGreaterEqual,
    /// One is NaN.
    Unordered,
}

/// Product and sum with one rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fused {
    /// `a·b + c`
    MulAdd,
    /// `a·b - c`
    MulSub,
    /// `c - a·b`
    NegMulAdd,
}

/// One op. `copy` says which eight elements of an unrolled iteration are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum VectorOp {
    /// The bits in every lane.
    Constant(u32),
    /// A value that is the same in all lanes, from its frame slot.
    Kept(u16),
    /// Uniform input number `.0` in every lane.
    Uniform(u16),
    /// Number of elements of the row in every lane.
    Length,
    /// Indices of the elements as floats.
    Position { copy: u8 },
    /// Elements of a row.
    Load { row: Row, copy: u8 },
    /// Elements of a row where the mask is set, 0 elsewhere.
    MaskedLoad { row: Row, mask: Value },
    /// The lanes that the last, partial iteration has.
    TailMask,
    /// What a reduction has accumulated so far.
    Accumulator { reduction: u16, copy: u8 },
    /// Operation of one operand.
    One(Lane1, Value),
    /// Operation of two operands.
    Two(Lane2, Value, Value),
    /// Product and sum.
    Fma(Fused, Value, Value, Value),
    /// `no`, or `yes` in the lanes whose sign bit is set in `mask`.
    Blend { no: Value, yes: Value, mask: Value },
    /// New state of a reduction.
    Accumulate { reduction: u16, copy: u8, value: Value },
    /// Writes a frame slot.
    Keep { slot: u16, value: Value },
    /// Writes elements of a row.
    Store { row: Row, copy: u8, value: Value },
    /// Writes elements of a row where the mask is set.
    MaskedStore { row: Row, mask: Value, value: Value },
}

impl VectorOp {
    /// Operands in order.
    pub(super) fn operands(self) -> impl Iterator<Item = Value> + Clone {
        let mut list = [None; 3];
        self.map_operands(|k, v| {
            list[k] = Some(v);
            v
        });
        list.into_iter().flatten()
    }

    /// The op with operand number `k` of value `v` replaced by `f(k, v)`.
    pub(super) fn map_operands(self, mut f: impl FnMut(usize, Value) -> Value) -> VectorOp {
        use VectorOp::*;
        match self {
            Constant(_) | Kept(_) | Uniform(_) | Length | Position { .. } | Load { .. } | TailMask => self,
            Accumulator { .. } => self,
            MaskedLoad { row, mask } => MaskedLoad { row, mask: f(0, mask) },
            One(op, x) => One(op, f(0, x)),
            Two(op, a, b) => Two(op, f(0, a), f(1, b)),
            Fma(op, a, b, c) => Fma(op, f(0, a), f(1, b), f(2, c)),
            Blend { no, yes, mask } => Blend { no: f(0, no), yes: f(1, yes), mask: f(2, mask) },
            Accumulate { reduction, copy, value } => Accumulate { reduction, copy, value: f(0, value) },
            Keep { slot, value } => Keep { slot, value: f(0, value) },
            Store { row, copy, value } => Store { row, copy, value: f(0, value) },
            MaskedStore { row, mask, value } => MaskedStore { row, mask: f(0, mask), value: f(1, value) },
        }
    }

    /// Whether the op is executed for what it writes; it defines no value then.
    pub(super) fn is_effect(self) -> bool {
        use VectorOp::*;
        matches!(self, Accumulate { .. } | Keep { .. } | Store { .. } | MaskedStore { .. })
    }

    /// Whether the value lies in memory, the same in every iteration, and needs no instruction.
    pub(super) fn is_invariant(self) -> bool {
        matches!(self, VectorOp::Constant(_) | VectorOp::Kept(_))
    }
}
