//! A decoding loop allocates nothing once it has begun.
#![allow(unsafe_code)] // Counts what the global allocator is asked for.

#[path = "executor/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Dim, Type};
use castiron_runtime::program::row::{Access, RowNode};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{AttentionKernel, KernelBody, Matmul, RowOperands, Step};
use castiron_runtime::session::Session;
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::weights::{Encoding, PackedMatrix};
use support::*;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WIDTH: usize = 32;
const VOCABULARY: usize = 64;
const LAYERS: usize = 4;

/// Places `[b, s, WIDTH]`.
fn hidden(place: Place) -> View {
    view(place, [dim("s", 32), dim("", 32), dim("", 1)])
}

fn space(columns: i64) -> Vec<Dim> {
    vec![dim("b", 1), dim("s", 1), dim("", columns)]
}

fn matmul(columns: i64, x: View, weight: &Place, epilogue: RowOperands) -> KernelBody {
    let Place::Weight(weight) = *weight else { panic!("a weight") };
    KernelBody::Matmul(Matmul { space: space(columns), x, weight, chosen: None, epilogue })
}

/// A decoder of four layers with two heads: `logits[b, s, VOCABULARY]` of `tokens[b, s]` after `past[b]`.
fn decoder() -> Fixture {
    let mut fixture = Fixture::default();
    let (x, h, q, m) = (Place::Buffer(0), Place::Buffer(1), Place::Buffer(2), Place::Buffer(3));
    let small = |seed: usize, count: usize| values(seed as u32, count).iter().map(|x| x * 0.2).collect::<Vec<f32>>();
    let per_layer = |seed: usize, count: usize| (0..LAYERS).map(|i| small(10 * i + seed, count)).collect::<Vec<_>>();
    let table = fixture.packed(Encoding::Q8_0, [VOCABULARY, WIDTH], &[small(1, VOCABULARY * WIDTH)]);
    let norm = fixture.dense(&[WIDTH], &per_layer(2, WIDTH));
    let [wq, wo, wd] =
        [3, 4, 5].map(|seed| fixture.packed(Encoding::F32, [WIDTH, WIDTH], &per_layer(seed, WIDTH * WIDTH)));
    let gated = PackedMatrix { encoding: Encoding::Q8_0, groups: 2, n: WIDTH, k: WIDTH };
    let gated = fixture.grouped(gated, &per_layer(6, 2 * WIDTH * WIDTH));
    let cache = || Type::f32([dim("b", 1), dim("c", 1), dim("", 32)]);
    let (keys, values) = (fixture.state("k.{i}", 4, cache()), fixture.state("v.{i}", 4, cache()));
    let tokens = of(DType::I32, view(Place::Input(0), [dim("s", 1), dim("", 1), dim("", 0)]));
    let past = || of(DType::I32, view(Place::Input(1), [1, 0, 0]));
    let normed = |w: &Place| {
        let inputs = vec![hidden(x.clone()), view(w.clone(), [0, 0, 1])];
        rows(space(32), operands(rms_norm(), inputs, vec![hidden(h.clone())]))
    };
    let append = |from: &Place, state: &Place| {
        let to = view(state.clone(), [dim("c", 32), dim("", 32), dim("", 1)]);
        let to = at(past(), 32, dim("c", 1) - dim("s", 1) + 1.into(), to);
        rows(space(32), operands(copy(), vec![hidden(from.clone())], vec![to]))
    };
    let heads = |place: &Place| view(place.clone(), [dim("s", 32), dim("", 16), dim("", 0), dim("", 32), dim("", 1)]);
    let cached = |place: &Place| view(place.clone(), [dim("c", 32), dim("", 16), dim("", 32), dim("", 1)]);
    let attention = AttentionKernel {
        extents: [dim("b", 1), 2.into(), 1.into(), dim("s", 1), dim("c", 1), 16.into(), 16.into()],
        q: heads(&q),
        k: cached(&keys),
        v: cached(&values),
        scales: None,
        past: Some(of(DType::I32, view(Place::Input(1), [1]))),
        mask: None,
        bias: None,
        sinks: None,
        out: heads(&m),
        scale: 0.25,
        soft_cap: None,
        causal: true,
        window: None,
    };
    let residual = || operands(add(), vec![hidden(x.clone())], vec![hidden(x.clone())]);
    let nodes =
        [RowNode::Input(0), RowNode::Input(1), RowNode::Unary(UnaryOp::Silu, 0), RowNode::Binary(BinaryOp::Mul, 2, 1)];
    let gate = operands(program(&[Access::Element; 2], &nodes, &[3]), vec![], vec![hidden(m.clone())]);
    let to_q = operands(copy(), vec![], vec![hidden(q.clone())]);
    let logits = view(Place::Output(0), [dim("s", 64), dim("", 64), dim("", 1)]);
    let bodies = vec![
        rows(
            space(32),
            operands(copy(), vec![at(tokens, 32, 64, view(table.clone(), [0, 0, 1]))], vec![hidden(x.clone())]),
        ),
        normed(&norm),
        matmul(32, hidden(h.clone()), &wq, to_q),
        append(&q, &keys),
        append(&h, &values),
        KernelBody::Attention(Box::new(attention)),
        matmul(32, hidden(m.clone()), &wo, residual()),
        normed(&norm),
        matmul(32, hidden(h.clone()), &gated, gate),
        matmul(32, hidden(m.clone()), &wd, residual()),
        rows(space(32), operands(copy(), vec![hidden(x.clone())], vec![hidden(h.clone())])),
        matmul(64, hidden(h.clone()), &table, operands(copy(), vec![], vec![logits])),
    ];
    let bytes = || dim("b s", 128);
    let mut main = entry(
        &[("tokens", Type::i32(["b", "s"])), ("past", Type::i32(["b"]))],
        &[("logits", Type::f32(space(64)))],
        vec![buffer(bytes(), 0, 10), buffer(bytes(), 1, 11), buffer(bytes(), 2, 5), buffer(bytes(), 5, 9)],
        bodies,
    );
    let body = (1..10).map(Step::Kernel).collect();
    main.steps = vec![Step::Kernel(0), Step::Repeat { count: 4, body }, Step::Kernel(10), Step::Kernel(11)];
    fixture.entries.push(main);
    fixture
}

/// The logits of the last position.
fn run(session: &mut Session, tokens: &[i32], past: i32) -> f32 {
    let (shape, past) = ([1, tokens.len()], [past]);
    let tokens = TensorRef::i32(&shape, tokens).unwrap();
    let inputs = [("tokens", tokens), ("past", TensorRef::i32(&[1], &past).unwrap())];
    let outputs = session.run("main", &inputs).unwrap();
    let logits = outputs.get("logits").unwrap().as_f32().unwrap();
    *logits.last().unwrap()
}

/// One test, since the allocator counts for the whole process.
#[test]
fn decoding_allocates_nothing_and_agrees_with_the_prompt() {
    let fixture = decoder();
    let tokens: Vec<i32> = (0..40).map(|i| i * 7 % 64).collect();
    with_options(|options| {
        let mut session = fixture.model(options.clone()).session(&[("b", 1), ("c", 64)]).unwrap();
        let whole = run(&mut session, &tokens, 0);
        // The harness has a thread of its own, which may allocate meanwhile, but not each time.
        let allocations = (0..5).map(|_| {
            session.reset();
            run(&mut session, &tokens[..5], 0);
            run(&mut session, &tokens[5..6], 5);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let mut last = 0.0;
            for (at, token) in tokens.iter().enumerate().skip(6) {
                last = run(&mut session, std::slice::from_ref(token), at as i32);
            }
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert!((last - whole).abs() < 2e-2, "{last} instead of {whole}");
            after - before
        });
        assert_eq!(allocations.min(), Some(0), "{options:?}");
    });
}
