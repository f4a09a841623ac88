//! Row programs on parts of rows: what depends on the place within the row becomes an input.

use castiron_ir::op::BinaryOp;

use crate::program::row::{Access, RowNode, RowNodeId, RowProgram};

/// Inputs that [`on_parts`] appends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Extra {
    /// Index of the first element of the part.
    Start,
    /// Number of elements of the whole row.
    Length,
}

/// Whether a program asks where in a row it is.
pub(super) fn has_place(program: &RowProgram) -> bool {
    program.nodes.iter().any(|node| matches!(node, RowNode::Position | RowNode::Length))
}

/// The same map for parts of rows, with the inputs that it has at its end.
pub(super) fn on_parts(program: &RowProgram) -> (RowProgram, Vec<Extra>) {
    let mut parted = RowProgram { inputs: program.inputs.clone(), ..RowProgram::default() };
    let mut extras = Vec::new();
    let mut input = |extra: Extra, inputs: &mut Vec<Access>| {
        let known = extras.iter().position(|&e| e == extra);
        let number = known.unwrap_or_else(|| {
            extras.push(extra);
            inputs.push(Access::Uniform);
            extras.len() - 1
        });
        RowNode::Input((program.inputs.len() + number) as u16)
    };
    let mut moved: Vec<RowNodeId> = Vec::with_capacity(program.nodes.len());
    for node in &program.nodes {
        let at = |id: RowNodeId| moved[usize::from(id)];
        let node = match *node {
            RowNode::Position => {
                let start = input(Extra::Start, &mut parted.inputs);
                parted.nodes.extend([RowNode::Position, start]);
                let last = parted.nodes.len() as RowNodeId;
                RowNode::Binary(BinaryOp::Add, last - 2, last - 1)
            }
            RowNode::Length => input(Extra::Length, &mut parted.inputs),
            RowNode::Unary(op, a) => RowNode::Unary(op, at(a)),
            RowNode::Binary(op, a, b) => RowNode::Binary(op, at(a), at(b)),
            RowNode::Select(a, b, c) => RowNode::Select(at(a), at(b), at(c)),
            RowNode::Reduce(kind, a) => RowNode::Reduce(kind, at(a)),
            leaf @ (RowNode::Input(_) | RowNode::Constant(_)) => leaf,
        };
        moved.push(parted.nodes.len() as RowNodeId);
        parted.nodes.push(node);
    }
    parted.stores = program.stores.iter().map(|&id| moved[usize::from(id)]).collect();
    (parted, extras)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_the_start_of_the_part() {
        let nodes = vec![RowNode::Input(0), RowNode::Position, RowNode::Length, RowNode::Select(0, 1, 2)];
        let program = RowProgram { inputs: vec![Access::Element], nodes, stores: vec![3, 1] };
        let (parted, extras) = on_parts(&program);
        assert_eq!(extras, [Extra::Start, Extra::Length]);
        assert_eq!(parted.inputs, [Access::Element, Access::Uniform, Access::Uniform]);
        assert_eq!(parted.nodes[3], RowNode::Binary(BinaryOp::Add, 1, 2));
        assert_eq!(parted.nodes[5], RowNode::Select(0, 3, 4));
        assert_eq!(parted.stores, [5, 3]);
        assert!(parted.validate().is_ok() && has_place(&program));
    }
}
