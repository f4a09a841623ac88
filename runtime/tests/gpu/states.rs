//! States that lie on the device.

use castiron_ir::{DType, Type};
use castiron_runtime::program::view::Place;
use castiron_runtime::session::{RunError, Session};
use castiron_runtime::tensor::TensorRef;

use crate::shaders::*;
use crate::support::*;

/// A state [b, 3, c, 2] of f32 that is filled with the numbers of its elements.
fn numbered() -> Fixture {
    let mut fixture = Fixture::default();
    let state = fixture.state("cache", 1, Type::f32([dim("b", 1), 3.into(), dim("c", 1), 2.into()]));
    let count = || dim("b c", 6);
    let one = view(Place::Input(0), [0]);
    let kernel = rows([count()], operands(copy(), vec![one], vec![view(state.clone(), [1])]));
    fixture.entries.push(entry(&[("x", Type::f32([1]))], &[], vec![], vec![kernel]));
    let declarations = storage(1, "read_write", "state", "f32");
    let fill = shader("fill", &["b", "c"], &declarations, "6u * d.b * d.c", "state[i] = f32(i);");
    let stages = vec![stage(1, vec![launch(0, dispatch(0, vec![writes(state)], count()))])];
    fixture.launches = Some(launches(vec![fill], &["b", "c"], stages));
    fixture
}

fn filled(states: &[(&str, usize)]) -> Session {
    let mut session = model(&numbered()).session(states).unwrap();
    session.run("main", &[("x", TensorRef::f32(&[1], &[0.0]).unwrap())]).unwrap();
    session
}

fn read(session: &mut Session) -> Vec<f32> {
    session.state("cache", 0).unwrap().as_f32().unwrap().to_vec()
}

#[test]
fn states_begin_with_zeros_and_are_set_back() {
    let mut session = model(&numbered()).session(&[("b", 1), ("c", 2)]).unwrap();
    assert_eq!(read(&mut session), [0.0; 12]);
    let mut session = filled(&[("b", 1), ("c", 2)]);
    assert_eq!(read(&mut session), (0..12).map(|i| i as f32).collect::<Vec<_>>());
    session.reset();
    assert_eq!(read(&mut session), [0.0; 12]);
    assert!(matches!(session.state("cache", 1), Err(RunError::UnknownState { instance: 1, .. })));
    assert!(matches!(session.state("cash", 0), Err(RunError::UnknownState { .. })));
}

#[test]
fn what_fits_both_extents_is_kept() {
    let mut session = filled(&[("b", 2), ("c", 2)]);
    let at = |b: usize, g: usize, c: usize, d: usize| (((b * 3 + g) * 2 + c) * 2 + d) as f32;
    session.resize("c", 3).unwrap();
    let grown = read(&mut session);
    for (i, found) in grown.iter().enumerate() {
        let [b, g, c, d] = [i / 18, i / 6 % 3, i / 2 % 3, i % 2];
        assert_eq!(*found, if c < 2 { at(b, g, c, d) } else { 0.0 });
    }
    session.resize("b", 1).unwrap();
    assert_eq!(read(&mut session), grown[..18]);
    assert_eq!(session.symbol("b"), Some(1));
    // Entries are bound anew.
    session.run("main", &[("x", TensorRef::f32(&[1], &[0.0]).unwrap())]).unwrap();
    assert_eq!(read(&mut session), (0..18).map(|i| i as f32).collect::<Vec<_>>());
    assert!(matches!(session.resize("d", 5), Err(RunError::Symbol { .. })));
    let error = session.resize("c", 1 << 50).unwrap_err().to_string();
    assert!(error.contains("state `cache`") && error.contains("max_buffer_size"), "{error}");
    assert_eq!(session.symbol("c"), Some(3));
    assert_eq!(read(&mut session).len(), 18);
}

#[test]
fn rows_follow_their_sequences() {
    let mut session = filled(&[("b", 3), ("c", 1)]);
    let before = read(&mut session);
    session.select("b", &[1, 0, 1]).unwrap();
    let after = read(&mut session);
    for (row, from) in [1, 0, 1].into_iter().enumerate() {
        assert_eq!(after[6 * row..][..6], before[6 * from..][..6]);
    }
    assert!(matches!(session.select("b", &[0, 3, 0]), Err(RunError::Row { row: 3, .. })));
    assert!(matches!(session.select("b", &[0]), Err(RunError::Row { .. })));
    let mut session = filled(&[("b", 1), ("c", 2)]);
    session.select("c", &[1, 1]).unwrap();
    assert_eq!(read(&mut session), [2., 3., 2., 3., 6., 7., 6., 7., 10., 11., 10., 11.]);
}

/// Devices copy whole words; halves are moved by the host.
#[test]
fn states_of_halves_are_moved_too() {
    let mut fixture = Fixture::default();
    let ty = Type { dtype: DType::F16, shape: vec![dim("b", 1), dim("c", 1), 1.into()] };
    let state = fixture.state("halves", 1, ty);
    let to = of(DType::F16, view(state.clone(), [1]));
    let kernel = rows([dim("b c", 1)], operands(copy(), vec![view(Place::Input(0), [0])], vec![to]));
    fixture.entries.push(entry(&[("x", Type::f32([1]))], &[], vec![], vec![kernel]));
    let declarations = storage(1, "read_write", "state", "u32");
    let body = "state[i] = pack2x16float(vec2<f32>(f32(2u * i), f32(2u * i + 1u)));";
    let fill = shader("fill", &["b", "c"], &declarations, "(d.b * d.c + 1u) / 2u", body);
    let stages = vec![stage(1, vec![launch(0, dispatch(0, vec![writes(state)], dim("b c", 1)))])];
    fixture.launches = Some(launches(vec![fill], &["b", "c"], stages));
    let mut session = model(&fixture).session(&[("b", 3), ("c", 1)]).unwrap();
    session.run("main", &[("x", TensorRef::f32(&[1], &[0.0]).unwrap())]).unwrap();
    let read = |session: &mut Session| -> Vec<f32> {
        let bytes = session.state("halves", 0).unwrap().bytes();
        bytes.chunks_exact(2).map(|h| half::f16::from_le_bytes([h[0], h[1]]).to_f32()).collect()
    };
    assert_eq!(read(&mut session), [0.0, 1.0, 2.0]);
    session.select("b", &[2, 0, 0]).unwrap();
    assert_eq!(read(&mut session), [2.0, 0.0, 0.0]);
    session.resize("c", 2).unwrap();
    assert_eq!(read(&mut session), [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}
