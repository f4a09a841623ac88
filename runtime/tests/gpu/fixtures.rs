//! Programs that several tests use.

use castiron_ir::op::BinaryOp;
use castiron_ir::{DType, Type};
use castiron_runtime::program::Step;
use castiron_runtime::program::gpu::{Binding, Resource};
use castiron_runtime::program::row::{Access, RowNode};
use castiron_runtime::program::view::Place;

use crate::shaders::*;
use crate::support::*;

/// y[s, 4] = 3·x[s, 4], by a shader that says so; the kernel only copies.
pub fn scale() -> Fixture {
    let mut fixture = Fixture::default();
    let space = || [dim("s", 1), 4.into()];
    let [x, y] = [Place::Input(0), Place::Output(0)].map(|place| view(place, [4, 1]));
    fixture.entries.push(entry(
        &[("x", Type::f32(space()))],
        &[("y", Type::f32(space()))],
        vec![],
        vec![rows(space(), operands(copy(), vec![x], vec![y]))],
    ));
    let declarations = storage(1, "read", "x", "f32") + &storage(2, "read_write", "y", "f32");
    let triple = shader("triple", &["s"], &declarations, "4u * d.s", "y[i] = 3.0 * x[i];");
    let bindings = vec![reads(Place::Input(0)), writes(Place::Output(0))];
    let stages = vec![stage(1, vec![launch(0, dispatch(0, bindings, dim("s", 4)))])];
    fixture.launches = Some(launches(vec![triple], &["s"], stages));
    fixture
}

/// y[s, 100] = x[s], by way of nothing, though a temporary buffer of 1000·s bytes is there.
pub fn spread() -> Fixture {
    let mut fixture = Fixture::default();
    let space = || [dim("s", 1), 100.into()];
    let (x, y) = (view(Place::Input(0), [1, 0]), view(Place::Output(0), [100, 1]));
    fixture.entries.push(entry(
        &[("x", Type::f32(["s"]))],
        &[("y", Type::f32(space()))],
        vec![],
        vec![rows(space(), operands(copy(), vec![x], vec![y]))],
    ));
    let declarations = storage(1, "read", "x", "f32") + &storage(2, "read_write", "y", "f32");
    let spread = shader("spread", &["s"], &declarations, "100u * d.s", "y[i] = x[i / 100u];");
    let bindings = vec![reads(Place::Input(0)), writes(Place::Output(0))];
    let mut launch = launch(0, dispatch(0, bindings, dim("s", 100)));
    launch.choices[0].scratch = vec![dim("s", 1000)];
    fixture.launches = Some(launches(vec![spread], &["s"], vec![stage(1, vec![launch])]));
    fixture
}

/// y[s, 3] = table[ids[s]], where indices are checked.
pub fn embedding() -> Fixture {
    let mut fixture = Fixture::default();
    let table = fixture.dense(&[5, 3], &[values(0, 15)]);
    let ids = of(DType::I32, view(Place::Input(0), [1, 0]));
    let row = at(ids, 3, 5, view(table.clone(), [0, 1]));
    let space = || [dim("s", 1), 3.into()];
    fixture.entries.push(entry(
        &[("ids", Type::i32(["s"]))],
        &[("y", Type::f32(space()))],
        vec![],
        vec![rows(space(), operands(copy(), vec![row], vec![view(Place::Output(0), [3, 1])]))],
    ));
    let declarations = [
        storage(1, "read", "ids", "i32"),
        storage(2, "read", "table", "f32"),
        storage(3, "read_write", "y", "f32"),
        storage(4, "read_write", "status", "atomic<u32>"),
    ];
    let body = "let id = ids[i / 3u];
    if id < 0 || id >= 5 {
        if atomicCompareExchangeWeak(&status[0], 0u, 1u).exchanged {
            atomicStore(&status[1], 0u);
            atomicStore(&status[2], bitcast<u32>(id));
            atomicStore(&status[3], 5u);
        }
        return;
    }
    y[i] = table[u32(id) * 3u + i % 3u];";
    let gather = shader("gather", &["s"], &declarations.concat(), "3u * d.s", body);
    let status = Binding { resource: Resource::Status, read_write: true };
    let bindings = vec![reads(Place::Input(0)), reads(table), writes(Place::Output(0)), status];
    let stages = vec![stage(1, vec![launch(0, dispatch(0, bindings, dim("s", 3)))])];
    fixture.launches = Some(launches(vec![gather], &["s"], stages));
    fixture
}

/// A loop over weights and states, with buffers that change hands:
/// t = x; 3 times: sum_i += t; t = t·w_i + sum_i; y = t
pub fn looped() -> Fixture {
    let mut fixture = Fixture::default();
    let weights: Vec<Vec<f32>> = (0..3).map(|i| values(i, 5)).collect();
    let weight = fixture.dense(&[5], &weights);
    let sum = fixture.state("sum.{i}", 3, Type::f32([dim("b", 1), 5.into()]));
    let space = || [dim("b", 1), 5.into()];
    let at = |place: &Place| view(place.clone(), [5, 1]);
    let (x, y, t) = (Place::Input(0), Place::Output(0), Place::Buffer(1));
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Input(2),
        RowNode::Binary(BinaryOp::Mul, 0, 1),
        RowNode::Binary(BinaryOp::Add, 3, 2),
    ];
    let fma = program(&[Access::Element; 3], &nodes, &[4]);
    let of_weight = view(weight.clone(), [0, 1]);
    let mut main = entry(
        &[("x", Type::f32(space()))],
        &[("y", Type::f32(space()))],
        vec![buffer(4, 0, 3), buffer(dim("b", 20), 0, 3)],
        vec![
            rows(space(), operands(copy(), vec![at(&x)], vec![at(&t)])),
            rows(space(), operands(add(), vec![at(&sum), at(&t)], vec![at(&sum)])),
            rows(space(), operands(fma, vec![at(&t), of_weight, at(&sum)], vec![at(&t)])),
            rows(space(), operands(copy(), vec![at(&t)], vec![at(&y)])),
        ],
    );
    main.steps =
        vec![Step::Kernel(0), Step::Repeat { count: 3, body: vec![Step::Kernel(1), Step::Kernel(2)] }, Step::Kernel(3)];
    fixture.entries.push(main);
    let (rw, ro) = ("read_write", "read");
    let make = |name, declarations: &[String], body| shader(name, &["b"], &declarations.concat(), "5u * d.b", body);
    let shaders = vec![
        make("begin", &[storage(1, ro, "x", "f32"), storage(2, rw, "t", "f32")], "t[i] = x[i];"),
        make("sum", &[storage(1, rw, "sum", "f32"), storage(2, rw, "t", "f32")], "sum[i] += t[i];"),
        make(
            "fma",
            &[storage(1, rw, "t", "f32"), storage(2, ro, "w", "f32"), storage(3, rw, "sum", "f32")],
            "t[i] = t[i] * w[i % 5u] + sum[i];",
        ),
        make("end", &[storage(1, rw, "t", "f32"), storage(2, rw, "y", "f32")], "y[i] = t[i];"),
    ];
    let go = |shader: u32, bindings: Vec<Binding>| launch(shader, dispatch(shader, bindings, dim("b", 5)));
    let stages = vec![
        stage(1, vec![go(0, vec![reads(x), writes(t.clone())])]),
        stage(
            3,
            vec![
                go(1, vec![writes(sum.clone()), writes(t.clone())]),
                go(2, vec![writes(t.clone()), reads(weight), writes(sum)]),
            ],
        ),
        stage(1, vec![go(3, vec![writes(t), writes(y)])]),
    ];
    fixture.launches = Some(launches(shaders, &["b"], stages));
    fixture
}
