//! Row functions against the values of the op table in double precision, on every instruction set.

mod accuracy;
mod edges;
mod oracle;
mod programs;
mod random;

use super::RowFunction;
use crate::cpu::isa::Isa;
use crate::program::row::{Access, RowNode, RowNodeId, RowProgram, RowReduce};
use castiron_ir::op::{BinaryOp, UnaryOp};

/// Writes programs node by node.
#[derive(Default)]
struct Writer(RowProgram);

impl Writer {
    fn node(&mut self, node: RowNode) -> RowNodeId {
        self.0.nodes.push(node);
        (self.0.nodes.len() - 1) as RowNodeId
    }

    fn input(&mut self, access: Access) -> RowNodeId {
        self.0.inputs.push(access);
        self.node(RowNode::Input((self.0.inputs.len() - 1) as u16))
    }

    fn element(&mut self) -> RowNodeId {
        self.input(Access::Element)
    }

    fn uniform(&mut self) -> RowNodeId {
        self.input(Access::Uniform)
    }

    fn constant(&mut self, c: f32) -> RowNodeId {
        self.node(RowNode::Constant(c))
    }

    fn unary(&mut self, op: UnaryOp, x: RowNodeId) -> RowNodeId {
        self.node(RowNode::Unary(op, x))
    }

    fn binary(&mut self, op: BinaryOp, a: RowNodeId, b: RowNodeId) -> RowNodeId {
        self.node(RowNode::Binary(op, a, b))
    }

    fn reduce(&mut self, kind: RowReduce, x: RowNodeId) -> RowNodeId {
        self.node(RowNode::Reduce(kind, x))
    }

    fn mean(&mut self, x: RowNodeId) -> RowNodeId {
        let sum = self.reduce(RowReduce::Sum, x);
        let length = self.node(RowNode::Length);
        self.binary(BinaryOp::Div, sum, length)
    }

    fn store(mut self, nodes: &[RowNodeId]) -> RowProgram {
        self.0.stores = nodes.to_vec();
        self.0
    }
}

/// Runs a program on fresh output rows, which are checked for writes beyond their ends.
fn run(program: &RowProgram, isa: Isa, inputs: &[Vec<f32>], n: usize) -> Vec<Vec<f32>> {
    let function = RowFunction::compile(program, isa).expect("the program compiles");
    call(&function, program, inputs, n)
}

fn call(function: &RowFunction, program: &RowProgram, inputs: &[Vec<f32>], n: usize) -> Vec<Vec<f32>> {
    const CANARY: f32 = -1.2345e30;
    let levels = program.levels();
    let extents: Vec<usize> =
        program.stores.iter().map(|&node| if levels[usize::from(node)].varies { n } else { 1 }).collect();
    let mut outputs: Vec<Vec<f32>> = extents.iter().map(|extent| vec![CANARY; extent + 8]).collect();
    let sources: Vec<*const f32> = inputs.iter().map(|row| row.as_ptr()).collect();
    let targets: Vec<*mut f32> = outputs.iter_mut().map(|row| row.as_mut_ptr()).collect();
    call_raw(function, &sources, &targets, n);
    for (row, extent) in outputs.iter_mut().zip(extents) {
        assert!(row[extent..].iter().all(|&x| x == CANARY), "a store went beyond the row");
        row.truncate(extent);
    }
    outputs
}

/// Calls a function on rows that the caller has sized.
#[allow(unsafe_code)]
fn call_raw(function: &RowFunction, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
    // SAFETY: the tests give rows of the right extents.
    unsafe { function.call(inputs, outputs, n) }
}

/// Numbers between -1 and 1 that differ from each other.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
