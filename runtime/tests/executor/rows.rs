//! Row kernels: views, gathers, element types, places without memory.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Type};
use castiron_runtime::program::row::{Access, RowNode, RowReduce};
use castiron_runtime::program::view::Place;
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::weights::{Encoding, PackedMatrix};

use crate::support::*;

#[test]
fn transposed_and_strided_copies() {
    // y[h, s, d] = x[s, h, d], z[d, s, h] = x[s, h, d], w = every second row of x
    let mut fixture = Fixture::default();
    let space = || [dim("", 3), dim("s", 1), dim("", 4)];
    let x = || view(Place::Input(0), [4, 12, 1]);
    let y = view(Place::Output(0), [dim("s", 4), dim("", 4), dim("", 1)]);
    let z = view(Place::Output(1), [dim("", 1), dim("", 3), dim("s", 3)]);
    let w = view(Place::Output(2), [12, 1]);
    fixture.entries.push(entry(
        &[("x", Type::f32([dim("s", 1), dim("", 3), dim("", 4)]))],
        &[
            ("y", Type::f32([dim("", 3), dim("s", 1), dim("", 4)])),
            ("z", Type::f32([dim("", 4), dim("s", 1), dim("", 3)])),
            ("w", Type::f32([dim("s", 1).div_ceil(2), 12.into()])),
        ],
        vec![],
        vec![
            rows(space(), operands(copy(), vec![x()], vec![y])),
            rows(space(), operands(copy(), vec![x()], vec![z])),
            rows([dim("s", 1).div_ceil(2), 12.into()], operands(copy(), vec![view(Place::Input(0), [24, 1])], vec![w])),
        ],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 5, 700] {
            let x = values(1, s * 12);
            let (shape, at) = ([s, 3, 4], |i: usize, h: usize, d: usize| x[i * 12 + h * 4 + d]);
            let outputs = session.run("main", &[("x", TensorRef::f32(&shape, &x).unwrap())]).unwrap();
            let (y, z) = (outputs.get("y").unwrap(), outputs.get("z").unwrap());
            assert_eq!((y.shape(), z.shape()), (&[3, s, 4][..], &[4, s, 3][..]));
            let (y, z) = (y.as_f32().unwrap(), z.as_f32().unwrap());
            for (i, h, d) in (0..s).flat_map(|i| (0..3).flat_map(move |h| (0..4).map(move |d| (i, h, d)))) {
                assert_eq!((y[h * s * 4 + i * 4 + d], z[d * s * 3 + i * 3 + h]), (at(i, h, d), at(i, h, d)));
            }
            let w: Vec<f32> = x.chunks(12).step_by(2).flatten().copied().collect();
            assert_eq!(outputs.get("w").unwrap().as_f32().unwrap(), w);
        }
    });
}

#[test]
fn gathers_from_dense_and_packed_tables() {
    for encoding in Encoding::ALL {
        let (n, k) = (37, 64);
        let matrix = PackedMatrix { encoding, groups: 1, n, k };
        let table = values(2, n * k);
        let mut fixture = Fixture::default();
        let packed = fixture.packed(encoding, [n, k], std::slice::from_ref(&table));
        let dense = fixture.dense(&[n, k], std::slice::from_ref(&table));
        let gather = |place: Place, output: u32, ids: u32, dtype: DType| {
            let ids = of(dtype, view(Place::Input(ids), [1, 0]));
            let from = at(ids, k, n, view(place, [0, 1]));
            rows([dim("s", 1), k.into()], operands(copy(), vec![from], vec![view(Place::Output(output), [k, 1])]))
        };
        let ty = || Type::f32([dim("s", 1), k.into()]);
        fixture.entries.push(entry(
            &[("ids", Type::i32(["s"])), ("wide", Type::new(DType::I64, ["s"]))],
            &[("packed", ty()), ("dense", ty())],
            vec![],
            vec![gather(packed, 0, 0, DType::I32), gather(dense, 1, 1, DType::I64)],
        ));
        let ids = [0, 36, 15, 16, 17, 3, 3];
        let wide: Vec<u8> = ids.iter().flat_map(|&i| i64::from(i).to_le_bytes()).collect();
        let bytes = pack(&matrix, &table);
        let mut expected = vec![0.0; k];
        with_options(|options| {
            let mut session = fixture.model(options).session(&[]).unwrap();
            let aligned: Vec<u64> = wide.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
            let raw: Vec<u8> = aligned.iter().flat_map(|x| x.to_le_bytes()).collect();
            let Ok(wide) = TensorRef::new(DType::I64, &[7], &raw) else { return };
            let inputs = [("ids", TensorRef::i32(&[7], &ids).unwrap()), ("wide", wide)];
            let outputs = session.run("main", &inputs).unwrap();
            for (row, &id) in ids.iter().enumerate() {
                let part = |name: &str| outputs.get(name).unwrap().as_f32().unwrap()[row * k..][..k].to_vec();
                matrix.unpack_row(&bytes, 0, id as usize, &mut expected);
                assert_eq!(part("packed"), expected, "{encoding:?}");
                assert_eq!(part("dense"), table[id as usize * k..][..k]);
            }
        });
    }
}

#[test]
fn norms_in_place_of_a_sum() {
    // y = norm(a + b), both stored
    let mut fixture = Fixture::default();
    let weight = values(3, 50);
    let w = fixture.dense(&[50], std::slice::from_ref(&weight));
    let buffer_view = || view(Place::Buffer(0), [50, 1]);
    let space = || [dim("s", 1), 50.into()];
    fixture.entries.push(entry(
        &[("a", Type::f32(space())), ("b", Type::f32([50]))],
        &[("y", Type::f32(space()))],
        vec![buffer(dim("s", 200), 0, 2)],
        vec![
            rows(
                space(),
                operands(
                    add(),
                    vec![view(Place::Input(0), [50, 1]), view(Place::Input(1), [0, 1])],
                    vec![buffer_view()],
                ),
            ),
            rows(space(), operands(rms_norm(), vec![buffer_view(), view(w, [0, 1])], vec![buffer_view()])),
            rows(space(), operands(copy(), vec![buffer_view()], vec![view(Place::Output(0), [50, 1])])),
        ],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 2, 90] {
            let (a, b) = (values(4, s * 50), values(5, 50));
            let shape = [s, 50];
            let inputs = [("a", TensorRef::f32(&shape, &a).unwrap()), ("b", TensorRef::f32(&[50], &b).unwrap())];
            let mut expected = Vec::new();
            for row in a.chunks(50) {
                let sum: Vec<f32> = row.iter().zip(&b).map(|(a, b)| a + b).collect();
                let scale = 1.0 / (sum.iter().map(|x| x * x).sum::<f32>() / 50.0 + 1e-5).sqrt();
                expected.extend(sum.iter().zip(&weight).map(|(x, w)| x * scale * w));
            }
            let outputs = session.run("main", &inputs).unwrap();
            assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 1e-5);
        }
    });
}

#[test]
fn element_types_are_converted() {
    // i32 → f16 → bool, and back to i32: h = x, y = (h != 0), z = h + 1
    let mut fixture = Fixture::default();
    let nodes = [RowNode::Input(0), RowNode::Constant(0.0), RowNode::Binary(BinaryOp::Ne, 0, 1)];
    let is_set = program(&[Access::Element], &nodes, &[2]);
    let nodes = [RowNode::Input(0), RowNode::Constant(1.0), RowNode::Binary(BinaryOp::Add, 0, 1)];
    let next = program(&[Access::Element], &nodes, &[2]);
    let half = || of(DType::F16, view(Place::Output(2), [1]));
    fixture.entries.push(entry(
        &[("x", Type::i32(["s"]))],
        &[("y", Type::new(DType::Bool, ["s"])), ("z", Type::i32(["s"])), ("h", Type::new(DType::F16, ["s"]))],
        vec![],
        vec![
            rows([dim("s", 1)], operands(copy(), vec![of(DType::I32, view(Place::Input(0), [1]))], vec![half()])),
            rows([dim("s", 1)], operands(is_set, vec![half()], vec![of(DType::Bool, view(Place::Output(0), [1]))])),
            rows([dim("s", 1)], operands(next, vec![half()], vec![of(DType::I32, view(Place::Output(1), [1]))])),
        ],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        let x: Vec<i32> = (0..5000).map(|i| i % 7 - 3).collect();
        let outputs = session.run("main", &[("x", TensorRef::i32(&[5000], &x).unwrap())]).unwrap();
        let y: Vec<u8> = x.iter().map(|&x| u8::from(x != 0)).collect();
        let z: Vec<i32> = x.iter().map(|x| x + 1).collect();
        assert_eq!(outputs.get("y").unwrap().as_bool().unwrap(), y);
        assert_eq!(outputs.get("z").unwrap().as_i32().unwrap(), z);
    });
}

#[test]
fn indices_extents_and_positions_are_values() {
    // y[i, j, k] = 10000·i + 100·j + k + s, with k in the row; z[i, j] = Σ_k k
    let mut fixture = Fixture::default();
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Input(2),
        RowNode::Position,
        RowNode::Constant(10000.0),
        RowNode::Constant(100.0),
        RowNode::Binary(BinaryOp::Mul, 0, 4),
        RowNode::Binary(BinaryOp::Mul, 1, 5),
        RowNode::Binary(BinaryOp::Add, 6, 7),
        RowNode::Binary(BinaryOp::Add, 8, 3),
        RowNode::Binary(BinaryOp::Add, 9, 2),
    ];
    let numbers = program(&[Access::Uniform; 3], &nodes, &[10]);
    let place = |place: Place| view(place, [0, 0, 0]);
    let inputs = vec![place(Place::Index(0)), place(Place::Index(1)), place(Place::Extent(dim("s", 1)))];
    let y = view(Place::Output(0), [dim("s", 5), dim("", 5), dim("", 1)]);
    let sum = program(&[], &[RowNode::Position, RowNode::Reduce(RowReduce::Sum, 0)], &[1]);
    let z = view(Place::Output(1), [dim("s", 1), dim("", 1), dim("", 0)]);
    let space = || [dim("", 2), dim("s", 1), dim("", 5)];
    fixture.entries.push(entry(
        &[("x", Type::f32(["s"]))],
        &[("y", Type::f32(space())), ("z", Type::f32([dim("", 2), dim("s", 1)]))],
        vec![],
        vec![rows(space(), operands(numbers, inputs, vec![y])), rows(space(), operands(sum, vec![], vec![z]))],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        for s in [1, 3] {
            let (shape, x) = ([s], vec![0.0; s]);
            let outputs = session.run("main", &[("x", TensorRef::f32(&shape, &x).unwrap())]).unwrap();
            let y = outputs.get("y").unwrap().as_f32().unwrap();
            for (i, j, k) in (0..2).flat_map(|i| (0..s).flat_map(move |j| (0..5).map(move |k| (i, j, k)))) {
                assert_eq!(y[(i * s + j) * 5 + k], (10000 * i + 100 * j + k + s) as f32);
            }
            assert_eq!(outputs.get("z").unwrap().as_f32().unwrap(), vec![10.0; 2 * s]);
        }
    });
}

#[test]
fn uniform_values_fill_rows_and_unit_rows_join() {
    // y[s, 9] = -x[s], z[s, 1] = -x[s] + x[s]·2 in rows of one element
    let mut fixture = Fixture::default();
    let negate = program(&[Access::Uniform], &[RowNode::Input(0), RowNode::Unary(UnaryOp::Neg, 0)], &[1]);
    let x = || view(Place::Input(0), [1, 0]);
    let y = view(Place::Output(0), [9, 1]);
    let z = view(Place::Output(1), [1, 0]);
    fixture.entries.push(entry(
        &[("x", Type::f32(["s"]))],
        &[("y", Type::f32([dim("s", 1), 9.into()])), ("z", Type::f32(["s"]))],
        vec![],
        vec![
            rows([dim("s", 1), 9.into()], operands(negate.clone(), vec![x()], vec![y])),
            rows([dim("s", 1), 1.into()], operands(negate, vec![x()], vec![z])),
        ],
    ));
    with_options(|options| {
        let mut session = fixture.model(options).session(&[]).unwrap();
        let x = values(6, 3000);
        let outputs = session.run("main", &[("x", TensorRef::f32(&[3000], &x).unwrap())]).unwrap();
        let y: Vec<f32> = x.iter().flat_map(|&x| [-x; 9]).collect();
        let z: Vec<f32> = x.iter().map(|&x| -x).collect();
        assert_eq!(outputs.get("y").unwrap().as_f32().unwrap(), y);
        assert_eq!(outputs.get("z").unwrap().as_f32().unwrap(), z);
    });
}
