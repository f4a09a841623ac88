//! Variants of a loop body: several iterations side by side, and the masked one for a ragged end.

use super::vector::{Block, Value, VectorOp};

/// The body for `copies` times eight elements. Copies alternate op by op, so that independent
/// instructions stand next to each other; invariant values are shared.
pub(super) fn unroll(body: &Block, copies: u8) -> Block {
    let mut block = Block::with_capacity(body.len() * usize::from(copies));
    let mut values: Vec<[Value; MAX_COPIES]> = Vec::with_capacity(body.len());
    for op in body {
        let mut copied = [block.len() as Value; MAX_COPIES];
        let distinct = if op.is_invariant() { 1 } else { copies };
        for copy in 0..distinct {
            copied[usize::from(copy)] = block.len() as Value;
            let op = op.map_operands(|_, v| values[v as usize][usize::from(copy)]);
            block.push(with_copy(op, copy));
        }
        values.push(copied);
    }
    block
}

/// Largest number of copies of a body.
pub(super) const MAX_COPIES: usize = 4;

fn with_copy(op: VectorOp, copy: u8) -> VectorOp {
    use VectorOp::*;
    match op {
        Position { .. } => Position { copy },
        Load { row, .. } => Load { row, copy },
        Store { row, value, .. } => Store { row, copy, value },
        Accumulator { reduction, .. } => Accumulator { reduction, copy },
        Accumulate { reduction, value, .. } => Accumulate { reduction, copy, value },
        op => op,
    }
}

/// The body for fewer than eight elements: rows are read and written under a mask, and reductions
/// keep what they have in the lanes beyond the end.
pub(super) fn masked(body: &Block) -> Block {
    let mut block = vec![VectorOp::TailMask];
    let mut values: Vec<Value> = Vec::with_capacity(body.len());
    let mut so_far: Vec<(u16, Value)> = Vec::new();
    let mask = 0;
    for op in body {
        let op = op.map_operands(|_, v| values[v as usize]);
        let op = match op {
            VectorOp::Load { row, .. } => VectorOp::MaskedLoad { row, mask },
            VectorOp::Store { row, value, .. } => VectorOp::MaskedStore { row, mask, value },
            VectorOp::Accumulate { reduction, copy, value } => {
                let &(_, no) = so_far.iter().find(|(r, _)| *r == reduction).expect("an accumulator is read first");
                block.push(VectorOp::Blend { no, yes: value, mask });
                VectorOp::Accumulate { reduction, copy, value: block.len() as Value - 1 }
            }
            op => op,
        };
        block.push(op);
        let value = block.len() as Value - 1;
        if let VectorOp::Accumulator { reduction, .. } = op {
            so_far.push((reduction, value));
        }
        values.push(value);
    }
    block
}

/// The body with its accumulators in frame slots from `first` on, for more reductions than registers.
pub(super) fn with_accumulators_in_slots(body: &Block, first: u16) -> Block {
    let in_slot = |op: &VectorOp| match *op {
        VectorOp::Accumulator { reduction, .. } => VectorOp::Kept(first + reduction),
        VectorOp::Accumulate { reduction, value, .. } => VectorOp::Keep { slot: first + reduction, value },
        op => op,
    };
    body.iter().map(in_slot).collect()
}
