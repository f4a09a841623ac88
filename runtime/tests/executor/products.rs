//! Products with packed weights and of activations, with epilogues.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Dim, Type};
use castiron_runtime::program::row::{Access, RowNode, RowProgram};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{KernelBody, Matmul, Product, RowOperands};
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::weights::{Encoding, PackedMatrix};

use crate::support::*;

const K: usize = 40;
const N: usize = 50;

fn matmul(space: Vec<Dim>, x: View, weight: &Place, epilogue: RowOperands) -> KernelBody {
    let Place::Weight(weight) = *weight else { panic!("a weight") };
    KernelBody::Matmul(Matmul { space, x, weight, chosen: None, epilogue })
}

/// `x · Wᵀ` for rows of `K`.
fn product(x: &[f32], w: &[f32]) -> Vec<f32> {
    let columns = w.len() / K;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    x.chunks(K).flat_map(|x| (0..columns).map(move |n| dot(x, &w[n * K..][..K]))).collect()
}

#[test]
fn a_residual_is_added_in_place() {
    // h = copy(r); h = x·Wᵀ + h; y = h
    let mut fixture = Fixture::default();
    let w = values(1, N * K);
    let weight = fixture.packed(Encoding::F32, [N, K], std::slice::from_ref(&w));
    let h = || view(Place::Buffer(0), [dim("s", 50), dim("", 50), dim("", 1)]);
    let outer = |place: Place| view(place, [dim("s", 50), dim("", 50), dim("", 1)]);
    let space = || vec![dim("b", 1), dim("s", 1), dim("", 50)];
    let x = view(Place::Input(0), [dim("s", 40), dim("", 40), dim("", 1)]);
    fixture.entries.push(entry(
        &[("x", Type::f32([dim("b", 1), dim("s", 1), dim("", 40)])), ("r", Type::f32(space()))],
        &[("y", Type::f32(space()))],
        vec![buffer(dim("b s", 200), 0, 2)],
        vec![
            rows(space(), operands(copy(), vec![outer(Place::Input(1))], vec![h()])),
            matmul(space(), x, &weight, operands(add(), vec![h()], vec![h()])),
            rows(space(), operands(copy(), vec![h()], vec![outer(Place::Output(0))])),
        ],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for (b, s) in [(1, 1), (2, 3), (1, 130)] {
            let (x, r) = (values(2, b * s * K), values(3, b * s * N));
            let (xs, rs) = ([b, s, K], [b, s, N]);
            let inputs = [("x", TensorRef::f32(&xs, &x).unwrap()), ("r", TensorRef::f32(&rs, &r).unwrap())];
            let expected: Vec<f32> = product(&x, &w).iter().zip(&r).map(|(y, r)| y + r).collect();
            let outputs = session.run("main", &inputs).unwrap();
            assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 1e-4);
        }
    });
}

#[test]
fn gated_groups_and_a_result_in_halves() {
    // y = silu(x·W₀ᵀ) · (x·W₁ᵀ) in f16, transposed; x is transposed too, and the weight one of two.
    let mut fixture = Fixture::default();
    let (w, other) = (values(4, 2 * N * K), values(5, 2 * N * K));
    let matrix = PackedMatrix { encoding: Encoding::F32, groups: 2, n: N, k: K };
    let weight = fixture.grouped(matrix, std::slice::from_ref(&w));
    fixture.grouped(matrix, &[other]);
    let nodes =
        [RowNode::Input(0), RowNode::Input(1), RowNode::Unary(UnaryOp::Silu, 0), RowNode::Binary(BinaryOp::Mul, 2, 1)];
    let gate = program(&[Access::Element; 2], &nodes, &[3]);
    let y = of(DType::F16, view(Place::Output(0), [dim("", 1), dim("s", 1)]));
    let x = view(Place::Input(0), [dim("", 1), dim("s", 1)]);
    fixture.entries.push(entry(
        &[("x", Type::f32([dim("", 40), dim("s", 1)]))],
        &[("y", Type::new(DType::F16, [dim("", 50), dim("s", 1)]))],
        vec![],
        vec![matmul(vec![dim("s", 1), dim("", 50)], x, &weight, operands(gate, vec![], vec![y]))],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 7, 100] {
            let x = values(6, s * K);
            let transposed: Vec<f32> = (0..K * s).map(|i| x[i % s * K + i / s]).collect();
            let shape = [K, s];
            let outputs = session.run("main", &[("x", TensorRef::f32(&shape, &transposed).unwrap())]).unwrap();
            let bytes = outputs.get("y").unwrap().bytes();
            let y: Vec<f32> = bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
            let (gate, up) = (product(&x, &w[..N * K]), product(&x, &w[N * K..]));
            let result = |i: usize| gate[i] / (1.0 + (-gate[i]).exp()) * up[i];
            let expected: Vec<f32> = (0..N * s).map(|i| result(i % s * N + i / s)).collect();
            assert_near(&y, &expected, 2e-3);
        }
    });
}

#[test]
fn the_last_rows_are_gathered_and_the_epilogue_knows_its_column() {
    // y[b, n] = Σ_k x[b, last[b], k]·W[n, k] + n + 50
    let mut fixture = Fixture::default();
    let w = values(7, N * K);
    let weight = fixture.packed(Encoding::F16, [N, K], std::slice::from_ref(&w));
    let nodes = [
        RowNode::Input(0),
        RowNode::Position,
        RowNode::Length,
        RowNode::Binary(BinaryOp::Add, 0, 1),
        RowNode::Binary(BinaryOp::Add, 3, 2),
    ];
    let numbered = program(&[Access::Element], &nodes, &[4]);
    let last = of(DType::I32, view(Place::Input(1), [1, 0]));
    let x = at(last, 40, "s", view(Place::Input(0), [dim("s", 40), dim("", 1)]));
    let y = view(Place::Output(0), [50, 1]);
    fixture.entries.push(entry(
        &[("x", Type::f32([dim("b", 1), dim("s", 1), dim("", 40)])), ("last", Type::i32(["b"]))],
        &[("y", Type::f32([dim("b", 1), dim("", 50)]))],
        vec![],
        vec![matmul(vec![dim("b", 1), dim("", 50)], x, &weight, operands(numbered, vec![], vec![y]))],
    ));
    let rounded: Vec<f32> = w.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect();
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        let (x, last, shape) = (values(8, 3 * 4 * K), [3, 0, 2], [3, 4, K]);
        let inputs = [("x", TensorRef::f32(&shape, &x).unwrap()), ("last", TensorRef::i32(&[3], &last).unwrap())];
        let outputs = session.run("main", &inputs).unwrap();
        let picked: Vec<f32> =
            last.iter().enumerate().flat_map(|(b, &l)| x[(b * 4 + l as usize) * K..][..K].to_vec()).collect();
        let sums = product(&picked, &rounded);
        let expected: Vec<f32> = sums.iter().enumerate().map(|(i, y)| y + (i % N + N) as f32).collect();
        assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 1e-4);
    });
}

#[test]
fn quantised_weights_and_a_bias() {
    let mut fixture = Fixture::default();
    let (n, k) = (48, 64);
    let w = values(9, n * k);
    let weight = fixture.packed(Encoding::Q8_0, [n, k], std::slice::from_ref(&w));
    let bias_values = values(10, n);
    let bias = fixture.dense(&[n], std::slice::from_ref(&bias_values));
    let y = view(Place::Output(0), [48, 1]);
    fixture.entries.push(entry(
        &[("x", Type::f32([dim("s", 1), dim("", 64)]))],
        &[("y", Type::f32([dim("s", 1), dim("", 48)]))],
        vec![],
        vec![matmul(
            vec![dim("s", 1), dim("", 48)],
            view(Place::Input(0), [64, 1]),
            &weight,
            operands(add(), vec![view(bias, [0, 1])], vec![y]),
        )],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 9] {
            let (x, shape) = (values(11, s * k), [s, k]);
            let dot = |i: usize| (0..k).map(|j| x[i / n * k + j] * w[i % n * k + j]).sum::<f32>() + bias_values[i % n];
            let expected: Vec<f32> = (0..s * n).map(dot).collect();
            let outputs = session.run("main", &[("x", TensorRef::f32(&shape, &x).unwrap())]).unwrap();
            assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 0.1);
        }
    });
}

/// y[h, i, j] = Σ_k q[i, h, k]·p[j, h/2, k] · 0.5 - (j > i), p in f16
pub fn scores() -> Fixture {
    let mut fixture = Fixture::default();
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Position,
        RowNode::Binary(BinaryOp::Gt, 2, 1),
        RowNode::Constant(0.5),
        RowNode::Binary(BinaryOp::Mul, 0, 4),
        RowNode::Binary(BinaryOp::Sub, 5, 3),
    ];
    let epilogue: RowProgram = program(&[Access::Element, Access::Uniform], &nodes, &[6]);
    let row = view(Place::Index(2), [0, 0, 0, 0]);
    let y = view(Place::Output(0), [dim("s s", 2), dim("s s", 1), dim("s", 1), dim("", 1)]);
    let body = KernelBody::Product(Product {
        space: vec![dim("", 2), dim("", 2), dim("s", 1), dim("s", 1)],
        k: 8.into(),
        lhs: view(Place::Input(0), [16, 8, 32, 1]),
        rhs: of(DType::F16, view(Place::Input(1), [8, 0, 16, 1])),
        epilogue: operands(epilogue, vec![row], vec![y]),
    });
    fixture.entries.push(entry(
        &[
            ("q", Type::f32([dim("s", 1), dim("", 4), dim("", 8)])),
            ("p", Type::new(DType::F16, [dim("s", 1), dim("", 2), dim("", 8)])),
        ],
        &[("y", Type::f32([dim("", 4), dim("s", 1), dim("s", 1)]))],
        vec![],
        vec![body],
    ));
    fixture
}

#[test]
fn products_of_activations() {
    let fixture = scores();
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 5, 40] {
            let q = values(12, s * 32);
            let p: Vec<half::f16> = values(13, s * 16).into_iter().map(half::f16::from_f32).collect();
            let bits: Vec<u16> = p.iter().map(|x| x.to_bits()).collect();
            let (qs, ps) = ([s, 4, 8], [s, 2, 8]);
            let p_tensor = TensorRef::new(DType::F16, &ps, bytemuck::cast_slice(&bits)).unwrap();
            let inputs = [("q", TensorRef::f32(&qs, &q).unwrap()), ("p", p_tensor)];
            let outputs = session.run("main", &inputs).unwrap();
            let mut expected = Vec::new();
            for (h, i, j) in (0..4).flat_map(|h| (0..s).flat_map(move |i| (0..s).map(move |j| (h, i, j)))) {
                let dot: f32 = (0..8).map(|k| q[i * 32 + h * 8 + k] * p[j * 16 + h / 2 * 8 + k].to_f32()).sum();
                expected.push(dot * 0.5 - f32::from(u8::from(j > i)));
            }
            assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 1e-5);
        }
    });
}
