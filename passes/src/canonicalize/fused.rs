//! What fused ops do to their operands by themselves.

use castiron_ir::op::{Cast, Op};
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
];

/// What a value is before its conversion from f16.
fn widened(value: &Value, to: DType) -> Option<Value> {
    match value.producer()? {
        (Op::Cast(cast), x) if cast == Cast { to } && x[0].ty().dtype == DType::F16 => Some(x[0].clone()),
        (op, x) if is_view(&op) => Some(widened(&x[0], to)?.apply(op, &[])),
        _ => None,
    }
}
