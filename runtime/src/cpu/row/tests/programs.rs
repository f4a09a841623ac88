//! Programs as kernels have them, at every ragged length, with shared memory and many live values.

use super::oracle::evaluate;
use super::*;

/// Checks a program on all instruction sets at lengths around the vector and loop sizes.
fn check(program: &RowProgram, lengths: impl Iterator<Item = usize> + Clone) {
    for isa in Isa::available() {
        let function = RowFunction::compile(program, isa).expect("the program compiles");
        for n in lengths.clone() {
            let inputs: Vec<Vec<f32>> = (0..program.inputs.len()).map(|i| noise(i as u64, n.max(1))).collect();
            let outputs = call(&function, program, &inputs, n);
            let expected = evaluate(program, &inputs, n);
            for (output, (row, expected)) in outputs.iter().zip(&expected).enumerate() {
                assert_eq!(row.len(), expected.len());
                for (i, (&y, bound)) in row.iter().zip(expected).enumerate() {
                    assert!(
                        bound.allows(y),
                        "{isa:?}, n = {n}: output {output}[{i}] is {y:e}, not {bound:?}\n{}",
                        function.disassemble()
                    );
                }
            }
        }
    }
}

fn lengths() -> impl Iterator<Item = usize> + Clone {
    (0..=40).chain([47, 63, 64, 65, 96, 100, 127, 128, 129, 200])
}

pub(super) fn softmax() -> RowProgram {
    let mut w = Writer::default();
    let x = w.element();
    let max = w.reduce(RowReduce::Max, x);
    let centred = w.binary(BinaryOp::Sub, x, max);
    let e = w.unary(UnaryOp::Exp, centred);
    let sum = w.reduce(RowReduce::Sum, e);
    let y = w.binary(BinaryOp::Div, e, sum);
    w.store(&[y])
}

pub(super) fn layer_norm() -> RowProgram {
    let mut w = Writer::default();
    let (x, weight, bias) = (w.element(), w.element(), w.element());
    let mean = w.mean(x);
    let centred = w.binary(BinaryOp::Sub, x, mean);
    let square = w.binary(BinaryOp::Mul, centred, centred);
    let variance = w.mean(square);
    let epsilon = w.constant(1e-5);
    let shifted = w.binary(BinaryOp::Add, variance, epsilon);
    let scale = w.unary(UnaryOp::Rsqrt, shifted);
    let y = w.binary(BinaryOp::Mul, centred, scale);
    let y = w.binary(BinaryOp::Mul, y, weight);
    let y = w.binary(BinaryOp::Add, y, bias);
    w.store(&[y])
}

fn gated(op: UnaryOp) -> RowProgram {
    let mut w = Writer::default();
    let (gate, up) = (w.element(), w.element());
    let gate = w.unary(op, gate);
    let y = w.binary(BinaryOp::Mul, gate, up);
    w.store(&[y])
}

#[test]
fn softmax_at_all_lengths() {
    check(&softmax(), lengths());
}

#[test]
fn layer_norm_at_all_lengths() {
    check(&layer_norm(), lengths());
}

#[test]
fn gated_maps_at_all_lengths() {
    for op in [UnaryOp::Silu, UnaryOp::Gelu, UnaryOp::GeluTanh, UnaryOp::Relu] {
        check(&gated(op), lengths());
    }
}

#[test]
fn softmax_of_a_masked_row_has_zeros() {
    for isa in Isa::available() {
        let mut row = noise(3, 37);
        row[5..30].fill(f32::NEG_INFINITY);
        let y = run(&softmax(), isa, &[row], 37).remove(0);
        assert!(y[5..30].iter().all(|&p| p == 0.0));
        assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn uniform_inputs_and_outputs_mix_with_rows() {
    let mut w = Writer::default();
    let (x, scale, shift) = (w.element(), w.uniform(), w.uniform());
    let y = w.binary(BinaryOp::Mul, x, scale);
    let y = w.binary(BinaryOp::Add, y, shift);
    let least = w.reduce(RowReduce::Min, y);
    let most = w.reduce(RowReduce::Max, y);
    let range = w.binary(BinaryOp::Sub, most, least);
    let position = w.node(RowNode::Position);
    let z = w.binary(BinaryOp::Mul, position, y);
    let twice = w.binary(BinaryOp::Add, scale, scale);
    check(&w.store(&[z, range, y, twice, most, shift]), lengths().filter(|&n| n > 0));
}

#[test]
fn booleans_stay_masks() {
    let mut w = Writer::default();
    let (a, b, c) = (w.element(), w.element(), w.element());
    let less = w.binary(BinaryOp::Lt, a, b);
    let greater = w.binary(BinaryOp::Gt, b, c);
    let both = w.binary(BinaryOp::And, less, greater);
    let neither = w.unary(UnaryOp::Not, both);
    let either = w.binary(BinaryOp::Or, neither, c);
    let picked = w.node(RowNode::Select(both, a, c));
    let by_value = w.node(RowNode::Select(c, a, b));
    let count = w.reduce(RowReduce::Sum, neither);
    check(&w.store(&[picked, neither, either, by_value, count]), lengths());
}

/// Outputs that share memory with inputs give what separate outputs give.
#[test]
fn outputs_may_be_inputs() {
    let mut swapped = Writer::default();
    let (x, y) = (swapped.element(), swapped.element());
    let sum = swapped.binary(BinaryOp::Add, x, y);
    let swapped = swapped.store(&[y, x, sum]);
    let mut both = Writer::default();
    let (x, y) = (both.element(), both.element());
    let max = both.reduce(RowReduce::Max, x);
    let e = both.binary(BinaryOp::Sub, x, max);
    let e = both.unary(UnaryOp::Exp, e);
    let total = both.reduce(RowReduce::Sum, e);
    let p = both.binary(BinaryOp::Div, e, total);
    let weighted = both.binary(BinaryOp::Mul, p, y);
    let both = both.store(&[p, weighted]);
    for program in [swapped, both, softmax(), layer_norm()] {
        for isa in Isa::available() {
            for n in [1, 7, 8, 31, 64, 77] {
                let inputs: Vec<Vec<f32>> = (0..program.inputs.len()).map(|i| noise(i as u64, n)).collect();
                let expected = run(&program, isa, &inputs, n);
                let function = RowFunction::compile(&program, isa).expect("the program compiles");
                let mut rows = inputs.clone();
                let mut extra = vec![vec![0.0; n]; program.stores.len()];
                let pointers: Vec<*mut f32> = rows.iter_mut().map(|row| row.as_mut_ptr()).collect();
                let sources: Vec<*const f32> = pointers.iter().map(|p| p.cast_const()).collect();
                let targets: Vec<*mut f32> = (0..program.stores.len())
                    .map(|o| pointers.get(o).copied().unwrap_or_else(|| extra[o].as_mut_ptr()))
                    .collect();
                call_raw(&function, &sources, &targets, n);
                for (o, expected) in expected.iter().enumerate() {
                    let row = rows.get(o).unwrap_or(&extra[o]);
                    assert_eq!(&row[..n], &expected[..], "{isa:?}, output {o}, n = {n}");
                }
            }
        }
    }
}

/// Hundreds of values that are all alive at once, so that most of them are spilled.
#[test]
fn many_live_values_are_spilled() {
    for reduce in [false, true] {
        let mut w = Writer::default();
        let (x, y) = (w.element(), w.element());
        let mut values = vec![x, y];
        for i in 0..200 {
            let c = w.constant(0.5 + i as f32 / 200.0);
            let scaled = w.binary(BinaryOp::Mul, values[i % 2], c);
            let shifted = w.binary(BinaryOp::Max, scaled, values[(i + 1) % 2]);
            values.push(shifted);
        }
        // Paired from both ends, so that all are needed late.
        let mut sum = w.constant(0.0);
        for i in 0..values.len() / 2 {
            let pair = w.binary(BinaryOp::Mul, values[i], values[values.len() - 1 - i]);
            sum = w.binary(BinaryOp::Add, pair, sum);
        }
        if reduce {
            sum = w.reduce(RowReduce::Sum, sum);
        }
        check(&w.store(&[sum]), [0, 1, 7, 8, 9, 33, 100].into_iter());
    }
}

#[test]
fn more_reductions_than_registers() {
    for count in [8, 9, 20] {
        let mut w = Writer::default();
        let x = w.element();
        let mut stores = Vec::new();
        for i in 0..count {
            let c = w.constant(i as f32);
            let y = w.binary(BinaryOp::Sub, x, c);
            let y = w.binary(BinaryOp::Mul, y, x);
            stores.push(w.reduce([RowReduce::Sum, RowReduce::Max, RowReduce::Min][i % 3], y));
        }
        let all = w.binary(BinaryOp::Add, stores[0], stores[count - 1]);
        let y = w.binary(BinaryOp::Mul, x, all);
        stores.push(y);
        check(&w.store(&stores), [0, 1, 8, 13, 33, 64, 100].into_iter());
    }
}

#[test]
fn more_rows_than_pointer_registers() {
    let mut w = Writer::default();
    let rows: Vec<RowNodeId> = (0..20).map(|_| w.element()).collect();
    let stores: Vec<RowNodeId> = (0..12).map(|i| w.binary(BinaryOp::Sub, rows[i], rows[19 - i])).collect();
    check(&w.store(&stores), [0, 1, 8, 13, 100].into_iter());
}

#[test]
fn several_functions_share_a_mapping() {
    for isa in Isa::available() {
        let programs = [softmax(), layer_norm(), gated(UnaryOp::Silu)];
        let functions = RowFunction::compile_all(&programs.each_ref(), isa).expect("the programs compile");
        for (program, function) in programs.iter().zip(functions) {
            let inputs: Vec<Vec<f32>> = (0..program.inputs.len()).map(|i| noise(i as u64, 50)).collect();
            assert_eq!(call(&function, program, &inputs, 50), run(program, isa, &inputs, 50));
        }
    }
}

#[test]
fn listings_name_parts_and_constants() {
    if Isa::Avx2.is_available() && cfg!(unix) {
        let text = RowFunction::compile(&softmax(), Isa::Avx2).expect("softmax compiles").disassemble();
        for part in ["; phase 0: 32 elements", "; phase 1: Sum 0", "vmaxps", "=1.442695", "vmaskmovps"] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
}

#[test]
fn equal_programs_are_compiled_once() {
    let cache = crate::cpu::row::RowCache::default();
    let isa = Isa::detect();
    let first = cache.get(&softmax(), isa).expect("softmax compiles");
    let again = cache.get_all(&[&layer_norm(), &softmax(), &softmax()], isa).expect("the programs compile");
    assert!(again[1].shares_code_with(&first) && again[2].shares_code_with(&first));
    assert!(!again[0].shares_code_with(&first));
}
