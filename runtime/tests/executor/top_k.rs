//! The largest elements of rows.

use castiron_ir::{DType, Type};
use castiron_runtime::bind::{BindError, BindFault};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{Fault, KernelBody, ProgramError, TopK};
use castiron_runtime::session::{Options, RunError};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

fn top_k(k: u32) -> TopK {
    let result = |number, dtype| of(dtype, view(Place::Output(number), [i64::from(k), 1]));
    TopK {
        space: vec![dim("b", 1)],
        n: 9.into(),
        k,
        // Rows are columns of the input.
        x: view(Place::Input(0), [dim("", 1), dim("b", 1)]),
        values: Some(result(0, DType::F32)),
        indices: Some(result(1, DType::I32)),
    }
}

fn of_kernel(kernel: TopK) -> Fixture {
    let results = || [dim("b", 1), i64::from(kernel.k).into()];
    let mut fixture = Fixture::default();
    fixture.entries.push(entry(
        &[("x", Type::f32([9.into(), dim("b", 1)]))],
        &[("values", Type::f32(results())), ("indices", Type::i32(results()))],
        vec![],
        vec![KernelBody::TopK(kernel)],
    ));
    fixture
}

/// values[b, 4], indices[b, 4] of x[9, b]
pub fn fixture() -> Fixture {
    of_kernel(top_k(4))
}

#[test]
fn columns_are_sorted() {
    let mut x = values(5, 27);
    (x[3], x[7], x[12], x[24]) = (f32::NAN, -0.0, 0.0, x[0]);
    with_options(|options| {
        for k in [1, 4, 9] {
            let mut session = of_kernel(top_k(k)).model(options.clone()).session(&[]).unwrap();
            let outputs = session.run("main", &[("x", TensorRef::f32(&[9, 3], &x).unwrap())]).unwrap();
            let (values, indices) = (outputs.get("values").unwrap(), outputs.get("indices").unwrap());
            for b in 0..3 {
                let at = |row: usize| x[row * 3 + b];
                let mut order: Vec<usize> = (0..9).collect();
                order.sort_by(|&i, &j| at(j).total_cmp(&at(i)));
                for (place, &row) in order[..k as usize].iter().enumerate() {
                    let to = b * k as usize + place;
                    assert_eq!(values.as_f32().unwrap()[to].to_bits(), at(row).to_bits());
                    assert_eq!(indices.as_i32().unwrap()[to], row as i32);
                }
            }
        }
    });
}

fn fault_of(change: impl FnOnce(&mut TopK)) -> Fault {
    let mut kernel = top_k(4);
    change(&mut kernel);
    match of_kernel(kernel).program().validate() {
        Err(ProgramError::Kernel { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernels_that_break_rules_are_refused() {
    let results = |top: &mut TopK, change: fn(&mut View)| {
        change(top.values.as_mut().unwrap());
    };
    assert!(matches!(fault_of(|top| top.k = 0), Fault::Size(_)));
    assert!(matches!(fault_of(|top| top.n = dim("z", 1)), Fault::Unbound(_)));
    assert!(matches!(fault_of(|top| top.space.clear()), Fault::Rank { .. }));
    assert!(matches!(fault_of(|top| top.x.place = Place::Index(0)), Fault::Place { .. }));
    assert!(matches!(fault_of(|top| results(top, |v| v.place = Place::Input(0))), Fault::Place { .. }));
    let floats = |top: &mut TopK| top.indices = Some(view(Place::Output(0), [4, 1]));
    assert!(matches!(fault_of(floats), Fault::DType { .. }));
    let gathered = |top: &mut TopK| {
        let indices = of(DType::I32, view(Place::Output(1), [1, 0]));
        top.values = Some(at(indices, 4, 1, view(Place::Output(0), [4, 1])));
    };
    assert!(matches!(fault_of(gathered), Fault::Place { .. }));
}

#[test]
fn rows_hold_what_is_taken() {
    let fault = |change: fn(&mut TopK)| {
        let mut kernel = top_k(4);
        change(&mut kernel);
        match of_kernel(kernel).model(Options::default()).plan("main", &[("b", 3)]) {
            Err(RunError::Bind(BindError::Kernel { fault, .. })) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(fault(|top| top.n = 3.into()), BindFault::Bounds { needed: 4, available: 3, .. }));
    assert!(matches!(fault(|top| top.n = 10.into()), BindFault::Bounds { .. }));
    assert!(matches!(fault(|top| top.values.as_mut().unwrap().strides[0] = 3.into()), BindFault::WrittenTwice(_)));
    assert!(matches!(fault(|top| top.indices.as_mut().unwrap().strides[1] = 2.into()), BindFault::Bounds { .. }));
    let same = |top: &mut TopK| {
        top.x = view(Place::Output(0), [4, 1]);
        top.n = 4.into();
    };
    assert!(matches!(fault(same), BindFault::Overlap { .. }));
}
