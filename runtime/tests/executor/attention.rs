//! Attention over a cache that grows.

use castiron_ir::{DType, Dim, Type};
use castiron_runtime::bind::{BindError, BindFault};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{AttentionKernel, KernelBody};
use castiron_runtime::session::{Options, RunError, Session};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

/// Appends rows `[b, s, d]` to a state `[b, c, d]` of some type.
fn append(state: Place, rows_of: Place, dtype: DType, d: i64) -> KernelBody {
    let past = of(DType::I32, view(Place::Input(1), [1, 0, 0]));
    let extent = dim("c", 1) - dim("s", 1) + 1.into();
    let to = at(past, d as usize, extent, of(dtype, view(state, [dim("c", d), dim("", d), dim("", 1)])));
    let from = view(rows_of, [dim("s", d), dim("", d), dim("", 1)]);
    rows([dim("b", 1), dim("s", 1), dim("", d)], operands(copy(), vec![from], vec![to]))
}

/// Appends numbers `[b, s]` to a state `[b, c]`.
fn append_scales(state: Place) -> KernelBody {
    let past = of(DType::I32, view(Place::Input(1), [1, 0]));
    let to = at(past, 1, dim("c", 1) - dim("s", 1) + 1.into(), view(state, [dim("c", 1), dim("", 1)]));
    let from = view(Place::Input(2), [dim("s", 1), dim("", 1)]);
    rows([dim("b", 1), dim("s", 1)], operands(copy(), vec![from], vec![to]))
}

/// Attention of vectors of width `d` to themselves and those before them, whose caches are of some type; those
/// of bytes have scales, a third input.
pub fn fixture(dtype: DType, d: i64) -> Fixture {
    let mut fixture = Fixture::default();
    let ty = || Type::new(dtype, [dim("b", 1), dim("c", 1), dim("", d)]);
    let (k, v) = (fixture.state("k", 1, ty()), fixture.state("v", 1, ty()));
    let has_scales = dtype == DType::I8;
    let of_rows = || Type::f32([dim("b", 1), dim("c", 1)]);
    let scales = has_scales.then(|| ["k_scale", "v_scale"].map(|name| fixture.state(name, 1, of_rows())));
    let query = |place: Place| -> View { view(place, [dim("s", d), dim("", 0), dim("", 0), dim("", d), dim("", 1)]) };
    let cache = |place: &Place| of(dtype, view(place.clone(), [dim("c", d), dim("", 0), dim("", d), dim("", 1)]));
    let extents: [Dim; 7] = [dim("b", 1), 1.into(), 1.into(), dim("s", 1), dim("c", 1), d.into(), d.into()];
    let attention = AttentionKernel {
        extents,
        q: query(Place::Input(0)),
        k: cache(&k),
        v: cache(&v),
        scales: scales.clone().map(|scales| scales.map(|place| view(place, [dim("c", 1), dim("", 0), dim("", 1)]))),
        past: Some(of(DType::I32, view(Place::Input(1), [1]))),
        mask: None,
        bias: None,
        sinks: None,
        out: query(Place::Output(0)),
        scale: 0.5,
        soft_cap: None,
        causal: true,
        window: None,
    };
    let x = || Type::f32([dim("b", 1), dim("s", 1), dim("", d)]);
    let mut inputs = vec![("q", x()), ("past", Type::i32(["b"]))];
    inputs.extend(has_scales.then(|| ("scale", Type::f32([dim("b", 1), dim("s", 1)]))));
    let mut bodies = vec![append(k, Place::Input(0), dtype, d), append(v, Place::Input(0), dtype, d)];
    bodies.extend(scales.into_iter().flatten().map(append_scales));
    bodies.push(KernelBody::Attention(Box::new(attention)));
    fixture.entries.push(entry(&inputs, &[("y", x())], vec![], bodies));
    fixture
}

/// Numbers as a cache holds them.
fn stored(dtype: DType, x: &[f32]) -> Vec<f32> {
    let round = |&x: &f32| match dtype {
        DType::F16 => half::f16::from_f32(x).to_f32(),
        DType::I8 => f32::from(x as i8),
        _ => x,
    };
    x.iter().map(round).collect()
}

/// The scale of a position.
fn scale(position: usize) -> f32 {
    0.001 * (1 + position % 4) as f32
}

/// Attention of the last of some positions to all of them; keys and values are the queries as stored.
fn expected(x: &[f32], dtype: DType, d: usize) -> Vec<f32> {
    let (query, mut kept) = (&x[x.len() - d..], stored(dtype, x));
    if dtype == DType::I8 {
        kept.chunks_mut(d).enumerate().for_each(|(i, row)| row.iter_mut().for_each(|x| *x *= scale(i)));
    }
    let rows: Vec<&[f32]> = kept.chunks(d).collect();
    let scores: Vec<f32> = rows.iter().map(|k| k.iter().zip(query).map(|(a, b)| a * b).sum::<f32>() * 0.5).collect();
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
    let total: f32 = weights.iter().sum();
    (0..d).map(|e| weights.iter().zip(&rows).map(|(w, row)| w * row[e]).sum::<f32>() / total).collect()
}

#[test]
fn prompts_and_steps_agree_with_plain_attention() {
    let widths = [(DType::F32, 8), (DType::F16, 8), (DType::F32, 5), (DType::F16, 5), (DType::F16, 37)];
    for (dtype, d) in widths.into_iter().chain([(DType::I8, 8), (DType::I8, 5), (DType::I8, 37)]) {
        let fixture = fixture(dtype, d as i64);
        with_options(|options| {
            let mut session = fixture.model(options).session(&[("b", 2), ("c", 7)]).unwrap();
            let size = if dtype == DType::I8 { 30.0 } else { 1.0 };
            let x: Vec<f32> = values(1, 2 * 20 * d).into_iter().map(|x| size * x).collect();
            let part = |b: usize, from: usize, to: usize| &x[(b * 20 + from) * d..(b * 20 + to) * d];
            // The second row is a token ahead: it repeats its first step.
            let mut done = [0, 0];
            for (s, back) in [(1, [1, 0]), (5, [0, 0]), (1, [0, 0]), (7, [0, 0]), (1, [0, 0])] {
                if done[1] + s > 7 {
                    session.resize("c", 20).unwrap();
                }
                let (shape, of_scales, past) = ([2, s, d], [2, s], done.map(|n| n as i32));
                let q = [part(0, done[0], done[0] + s), part(1, done[1], done[1] + s)].concat();
                let scales: Vec<f32> = done.iter().flat_map(|&n| (n..n + s).map(scale)).collect();
                let mut inputs =
                    vec![("q", TensorRef::f32(&shape, &q).unwrap()), ("past", TensorRef::i32(&[2], &past).unwrap())];
                if dtype == DType::I8 {
                    inputs.push(("scale", TensorRef::f32(&of_scales, &scales).unwrap()));
                }
                let outputs = session.run("main", &inputs).unwrap();
                let y = outputs.get("y").unwrap().as_f32().unwrap();
                for (b, i) in (0..2).flat_map(|b| (0..s).map(move |i| (b, i))) {
                    let expected = expected(part(b, 0, done[b] + i + 1), dtype, d);
                    assert_near(&y[(b * s + i) * d..][..d], &expected, 1e-5);
                }
                done = [0, 1].map(|b| done[b] + s - back[b]);
            }
        });
    }
}

#[test]
fn states_of_half_precision_are_kept_moved_and_read() {
    let fixture = fixture(DType::F16, 5);
    let mut session = fixture.model(Options::default()).session(&[("b", 2), ("c", 3)]).unwrap();
    let x = values(3, 2 * 2 * 5);
    let inputs = [("q", TensorRef::f32(&[2, 2, 5], &x).unwrap()), ("past", TensorRef::i32(&[2], &[0, 1]).unwrap())];
    session.run("main", &inputs).unwrap();
    let state = |session: &mut Session| {
        let state = session.state("k", 0).unwrap();
        assert_eq!(state.dtype(), DType::F16);
        assert!(state.as_f32().is_err());
        state.bytes().as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect::<Vec<f32>>()
    };
    let (first, second, none) = (stored(DType::F16, &x[..10]), stored(DType::F16, &x[10..]), [0.0; 5]);
    assert_eq!(state(&mut session), [&first, &none[..], &none, &second].concat());
    session.select("b", &[1, 1]).unwrap();
    assert_eq!(state(&mut session), [&none[..], &second, &none, &second].concat());
    session.resize("c", 4).unwrap();
    assert_eq!(state(&mut session), [&none[..], &second, &none, &none, &second, &none].concat());
    session.reset();
    assert_eq!(state(&mut session), vec![0.0; 40]);
}

#[test]
fn addresses_of_narrow_caches_are_checked_in_their_units() {
    let fault = |dtype: DType, change: fn(&mut AttentionKernel)| {
        let mut fixture = fixture(dtype, 5);
        let Some(KernelBody::Attention(attention)) = fixture.entries[0].kernels.last_mut().map(|k| &mut k.body) else {
            panic!("attention")
        };
        change(attention);
        let model = fixture.model(Options::default());
        let mut inputs = vec![
            ("q", TensorRef::f32(&[2, 1, 5], &[0.0; 10]).unwrap()),
            ("past", TensorRef::i32(&[2], &[0; 2]).unwrap()),
        ];
        if dtype == DType::I8 {
            inputs.push(("scale", TensorRef::f32(&[2, 1], &[1.0; 2]).unwrap()));
        }
        match model.session(&[("b", 2), ("c", 3)]).unwrap().run("main", &inputs) {
            Err(RunError::Bind(BindError::Kernel { fault, .. })) => fault,
            other => panic!("{:?}", other.map(drop)),
        }
    };
    use DType::{F16, I8};
    fn of_values(a: &mut AttentionKernel) -> &mut View {
        &mut a.scales.as_mut().unwrap()[1]
    }
    let is_beyond = |fault, bytes, there| matches!(fault, BindFault::Bounds { needed, available, .. } if (needed, available) == (bytes, there));
    assert!(is_beyond(fault(F16, |a| a.k.offset = 1.into()), 62, 60));
    assert!(is_beyond(fault(F16, |a| a.v.strides[0] = dim("c", 6)), 66, 60));
    assert!(is_beyond(fault(I8, |a| a.k.offset = 1.into()), 31, 30));
    assert!(is_beyond(fault(I8, |a| a.v.strides[0] = dim("c", 6)), 33, 30));
    assert!(is_beyond(fault(I8, |a| of_values(a).offset = 1.into()), 28, 24));
    assert!(is_beyond(fault(I8, |a| of_values(a).strides[0] = dim("c", 2)), 36, 24));
}
