//! Scans: what is carried, where it lies, and what a scan must not do.

use castiron_ir::op::BinaryOp;
use castiron_ir::{DType, Type};
use castiron_runtime::bind::{BindError, BindFault};
use castiron_runtime::program::row::{Access, RowNode, RowProgram, RowReduce};
use castiron_runtime::program::view::Place;
use castiron_runtime::program::{Fault, KernelBody, ProgramError, Scan};
use castiron_runtime::session::{Options, RunError};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

/// `h ← a·h + x`, stored in each step.
fn recurrence() -> RowProgram {
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Input(2),
        RowNode::Binary(BinaryOp::Mul, 0, 1),
        RowNode::Binary(BinaryOp::Add, 3, 2),
    ];
    program(&[Access::Element; 3], &nodes, &[4, 4])
}

/// `h: [b, n]` as a state, `a: [n]`, `x, y: [b, s, n]`; the state lies transposed if it is asked to.
pub fn fixture(reverse: bool, transposed: bool) -> Fixture {
    let mut fixture = Fixture::default();
    let (state, strides) = match transposed {
        false => (Type::f32([dim("b", 1), 5.into()]), [dim("", 0), dim("", 5), dim("", 1)]),
        true => (Type::f32([5.into(), dim("b", 1)]), [dim("", 0), dim("", 1), dim("b", 1)]),
    };
    let state = fixture.state("h", 1, state);
    let along = |place| view(place, [dim("", 5), dim("s", 5), dim("", 1)]);
    let carried = view(state, strides);
    let inputs = vec![view(Place::Input(0), [0, 0, 1]), along(Place::Input(1))];
    let operands = operands(recurrence(), inputs, vec![carried, along(Place::Output(0))]);
    let space = vec![dim("b", 1), 5.into()];
    let scan = KernelBody::Scan(Scan { steps: dim("s", 1), reverse, space, carried: 1, operands, fused: None });
    let ty = Type::f32([dim("b", 1), dim("s", 1), 5.into()]);
    fixture.entries.push(entry(&[("a", Type::f32([5])), ("x", ty.clone())], &[("y", ty)], vec![], vec![scan]));
    fixture
}

#[test]
fn rows_are_carried_from_step_to_step_and_call_to_call() {
    let (b, s, a) = (2, 4, values(1, 5));
    for (reverse, transposed) in [(false, false), (true, false), (false, true), (true, true)] {
        with_options(|options| {
            let mut session = fixture(reverse, transposed).model(options).session(&[("b", b)]).unwrap();
            let mut h = vec![0.0_f32; b * 5];
            for call in 0..2 {
                let x = values(2 + call, b * s * 5);
                let mut expected = vec![0.0; b * s * 5];
                for step in 0..s {
                    let t = if reverse { s - 1 - step } else { step };
                    for i in 0..b * 5 {
                        let at = (i / 5 * s + t) * 5 + i % 5;
                        h[i] = a[i % 5] * h[i] + x[at];
                        expected[at] = h[i];
                    }
                }
                let shape = [b, s, 5];
                let x = TensorRef::f32(&shape, &x).unwrap();
                let outputs = session.run("main", &[("a", TensorRef::f32(&[5], &a).unwrap()), ("x", x)]).unwrap();
                assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &expected, 1e-6);
            }
        });
    }
}

/// A running maximum of rows, which is one value for each, times rows of a table at indices that differ from
/// step to step: `m ← max(m, max x)`, `y = m·table[id]`.
fn maxima() -> Fixture {
    let mut fixture = Fixture::default();
    let table = fixture.dense(&[4, 3], &[(0..12).map(|i| i as f32).collect()]);
    let state = fixture.state("m", 1, Type::f32(["b"]));
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Reduce(RowReduce::Max, 1),
        RowNode::Binary(BinaryOp::Max, 0, 2),
        RowNode::Input(2),
        RowNode::Binary(BinaryOp::Mul, 3, 4),
    ];
    let program = program(&[Access::Uniform, Access::Element, Access::Element], &nodes, &[3, 5]);
    let along = |place| view(place, [dim("", 3), dim("s", 3), dim("", 1)]);
    let ids = of(DType::I32, view(Place::Input(1), [1, 0, 0]));
    let inputs = vec![along(Place::Input(0)), at(ids, 3, 4, view(table, [0, 0, 1]))];
    let outputs = vec![view(state, [0, 1, 0]), along(Place::Output(0))];
    let (space, operands) = (vec![dim("b", 1), 3.into()], operands(program, inputs, outputs));
    let scan = KernelBody::Scan(Scan { steps: dim("s", 1), reverse: false, space, carried: 1, operands, fused: None });
    let ty = Type::f32([dim("b", 1), dim("s", 1), 3.into()]);
    let inputs = [("x", ty.clone()), ("ids", Type::i32(["s"]))];
    fixture.entries.push(entry(&inputs, &[("y", ty)], vec![], vec![scan]));
    fixture
}

#[test]
fn one_value_is_carried_for_a_row() {
    with_options(|options| {
        let mut session = maxima().model(options).session(&[("b", 2)]).unwrap();
        let (x, ids) = (values(3, 2 * 3 * 3), [2, 0, 3]);
        let mut run = |ids: &[i32; 3]| {
            let (x, ids) = (TensorRef::f32(&[2, 3, 3], &x).unwrap(), TensorRef::i32(&[3], ids).unwrap());
            let outputs = session.run("main", &[("x", x), ("ids", ids)]);
            outputs.map(|outputs| outputs.get("y").unwrap().as_f32().unwrap().to_vec())
        };
        let mut expected = Vec::new();
        for lane in x.chunks(9) {
            let mut m = 0.0_f32;
            for (row, id) in lane.chunks(3).zip(ids) {
                m = row.iter().fold(m, |m, &x| m.max(x));
                expected.extend((0..3).map(|i| m * (3 * id + i) as f32));
            }
        }
        assert_near(&run(&ids).unwrap(), &expected, 1e-6);
        assert!(matches!(run(&[0, 4, 0]), Err(RunError::Index { index: 4, extent: 4, .. })));
    });
}

fn changed(change: impl FnOnce(&mut Scan)) -> Fixture {
    let mut fixture = fixture(false, false);
    match &mut fixture.entries[0].kernels[0].body {
        KernelBody::Scan(scan) => change(scan),
        other => panic!("{other:?}"),
    }
    fixture
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Scan)) -> Fault {
    match changed(change).program().validate() {
        Err(ProgramError::Kernel { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scans_that_break_rules_are_refused() {
    for carried in [3, usize::MAX] {
        let fault = refused(|scan| scan.carried = carried);
        assert!(matches!(fault, Fault::Operands { what: "outputs to carry", program: 2, .. }));
    }
    assert!(matches!(refused(|scan| scan.carried = 0), Fault::Operands { what: "inputs", .. }));
    assert!(matches!(refused(|scan| scan.steps = dim("t", 1)), Fault::Unbound(_)));
    assert!(matches!(refused(|scan| scan.space.clear()), Fault::Size(_)));
    assert!(matches!(refused(|scan| drop(scan.space.remove(0))), Fault::Rank { expected: 2, .. }));
    assert!(matches!(refused(|scan| scan.operands.outputs[0].strides[0] = 1.into()), Fault::Place { .. }));
    assert!(matches!(refused(|scan| scan.operands.outputs[0].dtype = DType::I32), Fault::DType { .. }));
    assert!(matches!(refused(|scan| scan.operands.outputs[0].place = Place::Input(1)), Fault::Place { .. }));
    let indirect = refused(|scan| {
        let ids = of(DType::I32, view(Place::Input(0), [0, 0, 0]));
        scan.operands.outputs[0] = at(ids, 1, 1, scan.operands.outputs[0].clone());
    });
    assert!(matches!(indirect, Fault::Place { .. } | Fault::DType { .. }));
}

#[track_caller]
fn unbound(change: impl FnOnce(&mut Scan)) -> BindFault {
    match changed(change).model(Options::default()).plan("main", &[("b", 2), ("s", 3)]) {
        Err(RunError::Bind(BindError::Kernel { fault, .. })) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_of_scans_are_checked() {
    let outputs = |scan: &mut Scan| scan.operands.outputs.clone();
    assert!(matches!(unbound(|scan| scan.steps = dim("s", 2)), BindFault::Bounds { .. }));
    assert!(matches!(unbound(|scan| scan.space[0] = dim("b", 2)), BindFault::Bounds { .. }));
    // Lanes that carry one row together, and outputs that each step writes at one place.
    assert!(matches!(unbound(|scan| scan.operands.outputs[0].strides[1] = 0.into()), BindFault::WrittenTwice(_)));
    assert!(matches!(unbound(|scan| scan.operands.outputs[1].strides[0] = 0.into()), BindFault::WrittenTwice(_)));
    // An output that each step writes where a row is carried, and an input that reads there.
    assert!(matches!(unbound(|scan| scan.operands.outputs[1] = outputs(scan)[0].clone()), BindFault::Overlap { .. }));
    assert!(matches!(unbound(|scan| scan.operands.inputs[1] = outputs(scan)[0].clone()), BindFault::Overlap { .. }));
    // One value that is read where a whole row is written.
    assert!(matches!(unbound(|scan| scan.operands.program.inputs[0] = Access::Uniform), BindFault::Overlap { .. }));
    assert!(matches!(unbound(|scan| scan.steps = (1_i64 << 40).into()), BindFault::TooLarge(_)));
}
