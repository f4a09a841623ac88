//! Row programs over a million elements, cut into rows; bandwidth counts every operand once.
#![allow(unsafe_code)] // Calls row functions on slices.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::cpu::row::RowFunction;
use castiron_runtime::program::row::{Access, RowNode, RowNodeId, RowProgram, RowReduce};

use crate::support::{median, noise};

const ELEMENTS: usize = 1 << 20;
const RUNS: usize = 31;

/// Prints the speed of each program, and its generated code if asked to.
pub fn report(is_listing: bool) {
    println!("{:<12} {:>7} {:<9} {:>9} {:>8} {:>12}", "program", "row", "path", "ms", "GB/s", "compile µs");
    for (name, row, program) in programs() {
        for isa in Isa::available() {
            let (function, compile_us) = compile(&program, isa);
            let ms = run(&function, &program, row);
            let rows = program.inputs.iter().filter(|&&access| access == Access::Element).count() + 1;
            let gigabytes = (rows * ELEMENTS * size_of::<f32>()) as f64 / 1e9;
            let bandwidth = gigabytes / (ms / 1e3);
            println!("{name:<12} {row:>7} {:<9} {ms:>9.3} {bandwidth:>8.1} {compile_us:>12.1}", format!("{isa:?}"));
            if is_listing && isa == Isa::Avx2 {
                println!("{}", function.disassemble());
            }
        }
    }
}

/// The function and the median time that it takes to compile.
fn compile(program: &RowProgram, isa: Isa) -> (RowFunction, f64) {
    let once = || RowFunction::compile(program, isa).expect("the program compiles");
    let us = median(RUNS, || drop(once())) * 1e6;
    (once(), us)
}

/// Median time in ms over all elements.
fn run(function: &RowFunction, program: &RowProgram, row: usize) -> f64 {
    let inputs: Vec<Vec<f32>> = vec![noise(ELEMENTS); program.inputs.len()];
    let mut output = vec![0.0_f32; ELEMENTS];
    let pass = || {
        for start in (0..ELEMENTS - row + 1).step_by(row) {
            let sources: [*const f32; 4] =
                std::array::from_fn(|i| inputs.get(i).map_or(std::ptr::null(), |x| &x[start]));
            // SAFETY: all rows have `row` elements from `start` on; the output is no input.
            unsafe { function.call(&sources[..inputs.len()], &[&mut output[start]], row) };
        }
    };
    1e3 * median(RUNS, pass)
}

fn programs() -> [(&'static str, usize, RowProgram); 6] {
    [
        ("silu(g)·u", ELEMENTS, gated(UnaryOp::Silu)),
        ("gelu", ELEMENTS, map(UnaryOp::Gelu)),
        ("gelu_tanh", ELEMENTS, map(UnaryOp::GeluTanh)),
        ("softmax", 512, softmax()),
        ("rms_norm", 576, rms_norm()),
        ("layer_norm", 768, layer_norm()),
    ]
}

/// Appends nodes; ids are those of the appended nodes.
#[derive(Default)]
struct Writer(RowProgram);

impl Writer {
    fn add(&mut self, node: RowNode) -> RowNodeId {
        self.0.nodes.push(node);
        (self.0.nodes.len() - 1) as RowNodeId
    }

    fn input(&mut self) -> RowNodeId {
        self.0.inputs.push(Access::Element);
        self.add(RowNode::Input((self.0.inputs.len() - 1) as u16))
    }

    fn binary(&mut self, op: BinaryOp, a: RowNodeId, b: RowNodeId) -> RowNodeId {
        self.add(RowNode::Binary(op, a, b))
    }

    fn mean(&mut self, x: RowNodeId) -> RowNodeId {
        let sum = self.add(RowNode::Reduce(RowReduce::Sum, x));
        let length = self.add(RowNode::Length);
        self.binary(BinaryOp::Div, sum, length)
    }

    /// `1/√(mean(x²) + ε)`
    fn inverse_norm(&mut self, x: RowNodeId) -> RowNodeId {
        let square = self.binary(BinaryOp::Mul, x, x);
        let mean = self.mean(square);
        let epsilon = self.add(RowNode::Constant(1e-5));
        let shifted = self.binary(BinaryOp::Add, mean, epsilon);
        self.add(RowNode::Unary(UnaryOp::Rsqrt, shifted))
    }

    fn store(mut self, node: RowNodeId) -> RowProgram {
        self.0.stores = vec![node];
        self.0
    }
}

fn map(op: UnaryOp) -> RowProgram {
    let mut w = Writer::default();
    let x = w.input();
    let y = w.add(RowNode::Unary(op, x));
    w.store(y)
}

fn gated(op: UnaryOp) -> RowProgram {
    let mut w = Writer::default();
    let (gate, up) = (w.input(), w.input());
    let gate = w.add(RowNode::Unary(op, gate));
    let y = w.binary(BinaryOp::Mul, gate, up);
    w.store(y)
}

fn softmax() -> RowProgram {
    let mut w = Writer::default();
    let x = w.input();
    let max = w.add(RowNode::Reduce(RowReduce::Max, x));
    let centred = w.binary(BinaryOp::Sub, x, max);
    let e = w.add(RowNode::Unary(UnaryOp::Exp, centred));
    let sum = w.add(RowNode::Reduce(RowReduce::Sum, e));
    let y = w.binary(BinaryOp::Div, e, sum);
    w.store(y)
}

fn rms_norm() -> RowProgram {
    let mut w = Writer::default();
    let (x, weight) = (w.input(), w.input());
    let scale = w.inverse_norm(x);
    let y = w.binary(BinaryOp::Mul, x, scale);
    let y = w.binary(BinaryOp::Mul, y, weight);
    w.store(y)
}

fn layer_norm() -> RowProgram {
    let mut w = Writer::default();
    let (x, weight, bias) = (w.input(), w.input(), w.input());
    let mean = w.mean(x);
    let centred = w.binary(BinaryOp::Sub, x, mean);
    let scale = w.inverse_norm(centred);
    let y = w.binary(BinaryOp::Mul, centred, scale);
    let y = w.binary(BinaryOp::Mul, y, weight);
    let y = w.binary(BinaryOp::Add, y, bias);
    w.store(y)
}
