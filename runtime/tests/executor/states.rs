//! States and loops.

use castiron_ir::{DType, Type};
use castiron_runtime::program::view::Place;
use castiron_runtime::program::{KernelBody, Matmul, Step};
use castiron_runtime::session::RunError;
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::weights::Encoding;

use crate::support::*;

const N: usize = 24;

/// x = copy(input); 3 times: s_i = s_i + x; x = x·W_iᵀ + s_i; y = x
pub fn looped() -> (Fixture, Vec<Vec<f32>>) {
    let mut fixture = Fixture::default();
    let weights: Vec<Vec<f32>> = (0..3).map(|i| values(i, N * N)).collect();
    let Place::Weight(weight) = fixture.packed(Encoding::F32, [N, N], &weights) else { panic!("a weight") };
    let state = fixture.state("sum.{i}", 3, Type::f32([dim("b", 1), dim("", 24)]));
    let at = |place: Place| view(place, [24, 1]);
    let (x, t) = (|| at(Place::Buffer(0)), || at(Place::Buffer(1)));
    let space = || vec![dim("b", 1), dim("", 24)];
    let mut main = entry(
        &[("x", Type::f32(space()))],
        &[("y", Type::f32(space()))],
        vec![buffer(dim("b", 96), 0, 4), buffer(dim("b", 96), 2, 3)],
        vec![
            rows(space(), operands(copy(), vec![at(Place::Input(0))], vec![x()])),
            rows(space(), operands(add(), vec![at(state.clone()), x()], vec![at(state.clone())])),
            KernelBody::Matmul(Matmul {
                space: space(),
                x: x(),
                weight,
                chosen: None,
                epilogue: operands(add(), vec![at(state)], vec![t()]),
            }),
            rows(space(), operands(copy(), vec![t()], vec![x()])),
            rows(space(), operands(copy(), vec![x()], vec![at(Place::Output(0))])),
        ],
    );
    let body = vec![Step::Kernel(1), Step::Kernel(2), Step::Kernel(3)];
    main.steps = vec![Step::Kernel(0), Step::Repeat { count: 3, body }, Step::Kernel(4)];
    fixture.entries.push(main);
    (fixture, weights)
}

#[test]
fn a_loop_uses_the_weights_and_states_of_its_iteration() {
    let (fixture, weights) = looped();
    with_options(|options| {
        let mut session = fixture.model(options).session(&[("b", 2)]).unwrap();
        let mut sums = vec![vec![0.0; 2 * N]; 3];
        for call in 0..3 {
            let input = values(10 + call, 2 * N);
            let mut x = input.clone();
            for (sum, w) in sums.iter_mut().zip(&weights) {
                sum.iter_mut().zip(&x).for_each(|(sum, x)| *sum += x);
                let dot = |i: usize| (0..N).map(|k| x[i / N * N + k] * w[i % N * N + k]).sum::<f32>() + sum[i];
                x = (0..2 * N).map(dot).collect();
            }
            let outputs = session.run("main", &[("x", TensorRef::f32(&[2, N], &input).unwrap())]).unwrap();
            assert_near(outputs.get("y").unwrap().as_f32().unwrap(), &x, 1e-3);
            for (i, sum) in sums.iter().enumerate() {
                assert_near(session.state("sum.{i}", i).unwrap().as_f32().unwrap(), sum, 1e-3);
            }
        }
        session.select("b", &[1, 1]).unwrap();
        let rows = session.state("sum.{i}", 2).unwrap().as_f32().unwrap();
        assert_eq!(rows[..N], rows[N..]);
        session.reset();
        assert!(session.state("sum.{i}", 2).unwrap().as_f32().unwrap().iter().all(|&x| x == 0.0));
        assert!(matches!(session.select("b", &[0, 2]), Err(RunError::Row { row: 2, .. })));
        assert!(matches!(session.state("sum.{i}", 3), Err(RunError::UnknownState { .. })));
    });
}

/// state[b, c, 2] at position[b] + s receives x[b, s, 2].
pub fn append() -> Fixture {
    let mut fixture = Fixture::default();
    let state = fixture.state("cache", 1, Type::f32([dim("b", 1), dim("c", 1), dim("", 2)]));
    let position = of(DType::I32, view(Place::Input(1), [1, 0, 0]));
    let extent = dim("c", 1) - dim("s", 1) + 1.into();
    let to = at(position, 2, extent, view(state, [dim("c", 2), dim("", 2), dim("", 1)]));
    let x = view(Place::Input(0), [dim("s", 2), dim("", 2), dim("", 1)]);
    let space = || [dim("b", 1), dim("s", 1), dim("", 2)];
    fixture.entries.push(entry(
        &[("x", Type::f32(space())), ("position", Type::i32(["b"]))],
        &[],
        vec![],
        vec![rows(space(), operands(copy(), vec![x], vec![to]))],
    ));
    fixture
}

#[test]
fn rows_are_appended_at_their_own_positions() {
    with_options(|options| {
        let mut session = append().model(options).session(&[("b", 2), ("c", 4)]).unwrap();
        let x: Vec<f32> = (1..=8).map(|i| i as f32).collect();
        let run = |session: &mut castiron_runtime::session::Session, position: [i32; 2]| {
            let x = TensorRef::f32(&[2, 2, 2], &x).unwrap();
            session.run("main", &[("x", x), ("position", TensorRef::i32(&[2], &position).unwrap())]).map(drop)
        };
        run(&mut session, [0, 2]).unwrap();
        let expected = [1., 2., 3., 4., 0., 0., 0., 0., 0., 0., 0., 0., 5., 6., 7., 8.];
        assert_eq!(session.state("cache", 0).unwrap().as_f32().unwrap(), expected);
        session.resize("c", 5).unwrap();
        let grown = [1., 2., 3., 4., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 5., 6., 7., 8., 0., 0.];
        assert_eq!(session.state("cache", 0).unwrap().as_f32().unwrap(), grown);
        run(&mut session, [3, 0]).unwrap();
        for position in [[4, 0], [0, -1], [0, i32::MAX]] {
            assert!(matches!(run(&mut session, position), Err(RunError::Index { extent: 4, .. })));
        }
        assert!(matches!(session.resize("d", 5), Err(RunError::Symbol { .. })));
        assert!(matches!(session.resize("c", usize::MAX / 64), Err(RunError::Memory(_))));
        assert_eq!(session.symbol("c"), Some(5));
    });
}
