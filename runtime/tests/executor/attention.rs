//! Attention over a cache that grows.

use castiron_ir::{DType, Dim, Type};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{AttentionKernel, KernelBody};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

const D: usize = 8;

/// Appends rows `[b, s, D]` to a state `[b, c, D]`.
fn append(state: Place, rows_of: Place) -> KernelBody {
    let past = of(DType::I32, view(Place::Input(1), [1, 0, 0]));
    let extent = dim("c", 1) - dim("s", 1) + 1.into();
    let to = at(past, D, extent, view(state, [dim("c", 8), dim("", 8), dim("", 1)]));
    let from = view(rows_of, [dim("s", 8), dim("", 8), dim("", 1)]);
    rows([dim("b", 1), dim("s", 1), dim("", 8)], operands(copy(), vec![from], vec![to]))
}

pub fn fixture(dtype: DType) -> Fixture {
    let mut fixture = Fixture::default();
    let ty = || Type::new(dtype, [dim("b", 1), dim("c", 1), dim("", 8)]);
    let (k, v) = (fixture.state("k", 1, ty()), fixture.state("v", 1, ty()));
    let query = |place: Place| -> View { view(place, [dim("s", 8), dim("", 0), dim("", 0), dim("", 8), dim("", 1)]) };
    let cache = |place: &Place| of(dtype, view(place.clone(), [dim("c", 8), dim("", 0), dim("", 8), dim("", 1)]));
    let extents: [Dim; 7] = [dim("b", 1), 1.into(), 1.into(), dim("s", 1), dim("c", 1), 8.into(), 8.into()];
    let attention = AttentionKernel {
        extents,
        q: query(Place::Input(0)),
        k: cache(&k),
        v: cache(&v),
        past: Some(of(DType::I32, view(Place::Input(1), [1]))),
        mask: None,
        bias: None,
        out: query(Place::Output(0)),
        scale: 0.5,
        soft_cap: None,
        causal: true,
        window: None,
    };
    let typed = |body: KernelBody| match body {
        KernelBody::Rows(mut rows) => {
            rows.operands.outputs.iter_mut().for_each(|view| view.dtype = dtype);
            KernelBody::Rows(rows)
        }
        body => body,
    };
    let x = || Type::f32([dim("b", 1), dim("s", 1), dim("", 8)]);
    fixture.entries.push(entry(
        &[("q", x()), ("past", Type::i32(["b"]))],
        &[("y", x())],
        vec![],
        vec![
            typed(append(k, Place::Input(0))),
            typed(append(v, Place::Input(0))),
            KernelBody::Attention(Box::new(attention)),
        ],
    ));
    fixture
}

/// Attention of the last of some positions to all of them; keys and values are the queries.
fn expected(x: &[f32]) -> Vec<f32> {
    let rows: Vec<&[f32]> = x.chunks(D).collect();
    let query = rows[rows.len() - 1];
    let scores: Vec<f32> = rows.iter().map(|k| k.iter().zip(query).map(|(a, b)| a * b).sum::<f32>() * 0.5).collect();
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
    let total: f32 = weights.iter().sum();
    (0..D).map(|e| weights.iter().zip(&rows).map(|(w, row)| w * row[e]).sum::<f32>() / total).collect()
}

#[test]
fn prompts_and_steps_agree_with_plain_attention() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F16, 3e-3)] {
        let fixture = fixture(dtype);
        with_options(|options| {
            let mut session = fixture.model(options).session(&[("b", 2), ("c", 6)]).unwrap();
            let x = values(1, 2 * 20 * D);
            let part = |b: usize, from: usize, to: usize| &x[(b * 20 + from) * D..(b * 20 + to) * D];
            let mut done = 0;
            for s in [5, 1, 1, 7, 1] {
                if done + s > 6 {
                    session.resize("c", 20).unwrap();
                }
                let (shape, past) = ([2, s, D], [done as i32; 2]);
                let q = [part(0, done, done + s), part(1, done, done + s)].concat();
                let inputs =
                    [("q", TensorRef::f32(&shape, &q).unwrap()), ("past", TensorRef::i32(&[2], &past).unwrap())];
                let outputs = session.run("main", &inputs).unwrap();
                let y = outputs.get("y").unwrap().as_f32().unwrap();
                for (b, i) in (0..2).flat_map(|b| (0..s).map(move |i| (b, i))) {
                    assert_near(&y[(b * s + i) * D..][..D], &expected(part(b, 0, done + i + 1)), tolerance);
                }
                done += s;
            }
        });
    }
}
