//! What fused ops do to their operands by themselves.

use castiron_ir::op::{Attention, Binary, BinaryOp, Cast, Op};
use castiron_ir::{DType, Value};

use super::Rule;
use crate::cluster::is_view;

/// The rules of `attention`.
pub(super) const ATTENTION: &[Rule] = &[
    // attention q, (cast k), (cast v) = attention q, k, v for k and v of half precision, and views of them
    |s| {
        let mut operands = s.operands.clone();
        let to = operands.first()?.ty().dtype;
        let mut is_changed = false;
        for operand in operands.iter_mut().skip(1).take(2) {
            if let Some(half) = widened(operand, to) {
                (*operand, is_changed) = (half, true);
            }
        }
        let (q, others) = operands.split_first()?;
        is_changed.then(|| q.apply(s.op.clone(), &others.iter().collect::<Vec<_>>()))
    },
    // attention q, (mul (cast k) a), (mul (cast v) b) = attention q, k, v, a, b for k and v of 8 bits
    |s| {
        let (Op::Attention(attention), [q, k, v, others @ ..]) = (&s.op, &s.operands[..]) else { return None };
        let scaled = Attention { scales: true, ..attention.clone() };
        let ((k, of_keys), (v, of_values)) = (scaled_bytes(k)?, scaled_bytes(v)?);
        let operands = [&k, &v, &of_keys, &of_values].into_iter().chain(others).collect::<Vec<_>>();
        (!attention.scales).then(|| q.apply(scaled, &operands))
    },
];

/// The rows of 8 bits that a value is, and the scale of each. Slices of rows have the scales of the whole.
fn scaled_bytes(value: &Value) -> Option<(Value, Value)> {
    let (op, x) = value.producer()?;
    match op {
        Op::Binary(Binary(BinaryOp::Mul)) => [(0, 1), (1, 0)].into_iter().find_map(|(bytes, scale)| {
            let (Op::Cast(_), bytes) = x[bytes].producer()? else { return None };
            let mut wanted = value.ty();
            wanted.shape[value.rank() - 1] = 1.into();
            (bytes[0].ty().dtype == DType::I8 && x[scale].ty() == wanted).then(|| (bytes[0].clone(), x[scale].clone()))
        }),
        Op::Slice(slice) if slice.axis + 1 == value.rank() => {
            let (bytes, scale) = scaled_bytes(&x[0])?;
            Some((bytes.apply(slice, &[]), scale))
        }
        _ => None,
    }
}

/// What a value is before its conversion from f16.
fn widened(value: &Value, to: DType) -> Option<Value> {
    match value.producer()? {
        (Op::Cast(cast), x) if cast == Cast { to } && x[0].ty().dtype == DType::F16 => Some(x[0].clone()),
        (op, x) if is_view(&op) => Some(widened(&x[0], to)?.apply(op, &[])),
        _ => None,
    }
}
