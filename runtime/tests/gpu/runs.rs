//! What launches compute.

use castiron_ir::Type;
use castiron_ir::op::BinaryOp;
use castiron_runtime::gpu::{GpuOptions, Mask};
use castiron_runtime::program::gpu::{AdapterClass, Binding, Choice, Condition, Features, Launch, Resource, Shader};
use castiron_runtime::program::view::Place;
use castiron_runtime::tensor::TensorRef;

use crate::fixtures::{looped, scale};
use crate::shaders::*;
use crate::support::*;

#[test]
fn one_shader_serves_all_extents() {
    let mut session = model(&scale()).session(&[]).unwrap();
    for rows in [1, 5, 40, 5] {
        let x = values(rows as u32, 4 * rows);
        let outputs = session.run("main", &[("x", TensorRef::f32(&[rows, 4], &x).unwrap())]).unwrap();
        let expected: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
        assert_eq!(outputs.get("y").unwrap().as_f32().unwrap(), expected);
    }
}

/// More workgroups than an axis takes.
#[test]
fn workgroups_go_on_along_the_second_axis() {
    let rows = 65536 * WIDTH as usize / 4 + 3;
    let x = values(1, 4 * rows);
    let mut session = model(&scale()).session(&[]).unwrap();
    let outputs = session.run("main", &[("x", TensorRef::f32(&[rows, 4], &x).unwrap())]).unwrap();
    let y = outputs.get("y").unwrap().as_f32().unwrap();
    assert!(y.iter().zip(&x).all(|(y, x)| *y == 3.0 * x));
}

#[test]
fn a_loop_uses_the_weights_and_states_of_its_iteration() {
    let x = values(9, 10);
    agree(&looped(), &[("b", 2)], &[("x", TensorRef::f32(&[2, 5], &x).unwrap())]);
}

/// Two kernels that do not depend on one another, in one dispatch: y[s, 4] = x + x, z[t, 3] = x·x
fn fused() -> Fixture {
    let mut fixture = Fixture::default();
    let (a, b) = (|| [dim("s", 1), 4.into()], || [dim("t", 1), 3.into()]);
    let of = |place: Place, width: i64| view(place, [width, 1]);
    let mul = binary(BinaryOp::Mul);
    fixture.entries.push(entry(
        &[("a", Type::f32(a())), ("b", Type::f32(b()))],
        &[("y", Type::f32(a())), ("z", Type::f32(b()))],
        vec![],
        vec![
            rows(
                a(),
                operands(add(), vec![of(Place::Input(0), 4), of(Place::Input(0), 4)], vec![of(Place::Output(0), 4)]),
            ),
            rows(
                b(),
                operands(mul, vec![of(Place::Input(1), 3), of(Place::Input(1), 3)], vec![of(Place::Output(1), 3)]),
            ),
        ],
    ));
    let source = "
struct Symbols { t: u32, s: u32 }
@group(0) @binding(0) var<uniform> d: Symbols;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = group.x + 65535u * group.y;
    let first = (4u * d.s + 63u) / 64u;
    if number < first {
        let i = number * 64u + local;
        if i < 4u * d.s { y[i] = a[i] + a[i]; }
    } else {
        let i = (number - first) * 64u + local;
        if i < 3u * d.t { z[i] = b[i] * b[i]; }
    }
}";
    let both = Shader { name: "both".into(), features: Features::NONE, source: source.into() };
    let bindings =
        vec![reads(Place::Input(0)), reads(Place::Input(1)), writes(Place::Output(0)), writes(Place::Output(1))];
    let mut one = dispatch(0, bindings, dim("s", 4));
    one.grids.push(vec![(dim("t", 1), WIDTH), (3.into(), 1)]);
    // Three tiles of t cover what one tile of 3·t needs, and the rest is ignored.
    let launch = Launch { first: 0, last: 1, choices: vec![choice(vec![one])] };
    fixture.launches = Some(launches(vec![both], &["t", "s"], vec![stage(1, vec![launch])]));
    fixture
}

#[test]
fn a_launch_of_two_kernels_has_two_grids() {
    let (a, b) = (values(1, 80), values(2, 300));
    let inputs = [("a", TensorRef::f32(&[20, 4], &a).unwrap()), ("b", TensorRef::f32(&[100, 3], &b).unwrap())];
    agree(&fused(), &[], &inputs);
}

#[test]
fn only_outputs_that_are_asked_for_are_read() {
    let (a, b) = (values(1, 4), values(2, 3));
    let inputs = [("a", TensorRef::f32(&[1, 4], &a).unwrap()), ("b", TensorRef::f32(&[1, 3], &b).unwrap())];
    let mut session = model(&fused()).session(&[]).unwrap();
    let outputs = session.run_for("main", &inputs, &["z"]).unwrap();
    assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["z"]);
    assert!(outputs.get("y").is_none());
    assert_eq!(outputs.get("z").unwrap().as_f32().unwrap(), b.iter().map(|b| b * b).collect::<Vec<_>>());
    assert_eq!(session.run_for("main", &inputs, &[]).unwrap().iter().count(), 0);
    assert_eq!(session.run("main", &inputs).unwrap().iter().count(), 2);
    let error = session.run_for("main", &inputs, &["w"]).err().unwrap();
    assert_eq!(error.to_string(), "entry `main` has no output `w`, only `y`, `z`");
}

/// y[64] = w[..64] + w[64..], where each half is bound for itself, by way of a temporary buffer.
#[test]
fn parts_of_weights_and_temporary_buffers() {
    let mut fixture = Fixture::default();
    let numbers = values(3, 128);
    let weight = fixture.dense(&[128], std::slice::from_ref(&numbers));
    let inputs = vec![view(weight.clone(), [1]), from(64, view(weight, [1]))];
    let kernel = rows([64], operands(add(), inputs, vec![view(Place::Output(0), [1])]));
    fixture.entries.push(entry(&[], &[("y", Type::f32([64]))], vec![], vec![kernel]));
    let (rw, ro) = ("read_write", "read");
    let halves = [storage(1, ro, "low", "f32"), storage(2, ro, "high", "f32"), storage(3, rw, "t", "f32")].concat();
    let copy = [storage(1, rw, "t", "f32"), storage(2, rw, "y", "f32")].concat();
    let shaders = vec![
        shader("halves", &[], &halves, "64u", "t[i] = low[i] + high[i];"),
        shader("copy", &[], &copy, "64u", "y[i] = t[i];"),
    ];
    let part = |offset| Binding { resource: Resource::Part { weight: 0, offset, bytes: 256 }, read_write: false };
    let scratch = || Binding { resource: Resource::Scratch(0), read_write: true };
    let dispatches = vec![
        dispatch(0, vec![part(0), part(256), scratch()], 64.into()),
        dispatch(1, vec![scratch(), writes(Place::Output(0))], 64.into()),
    ];
    let way = Choice { condition: Condition::default(), scratch: vec![256.into()], dispatches };
    let launch = Launch { first: 0, last: 0, choices: vec![way] };
    fixture.launches = Some(launches(shaders, &[], vec![stage(1, vec![launch])]));
    agree(&fixture, &[], &[]);
    let plan = model(&fixture).plan("main", &[]).unwrap();
    assert_eq!((plan.temporaries, plan.peak_bytes), (1, 256));
}

/// y[s] is the number of the choice that is taken, under several conditions.
fn chosen() -> Fixture {
    let mut fixture = Fixture::default();
    let kernel =
        rows([dim("s", 1)], operands(copy(), vec![view(Place::Input(0), [1])], vec![view(Place::Output(0), [1])]));
    fixture.entries.push(entry(&[("x", Type::f32(["s"]))], &[("y", Type::f32(["s"]))], vec![], vec![kernel]));
    let (f16, subgroups) = (Features { f16: true, subgroups: false }, Features { f16: false, subgroups: true });
    let condition = |features, class, at_most: Option<u32>| Condition {
        features,
        class,
        at_most: at_most.map(|most| (dim("s", 1), most)),
        stored: None,
    };
    let conditions = [
        condition(f16, Some(AdapterClass::Gpu), None),
        condition(f16, None, Some(1)),
        condition(subgroups, None, Some(2)),
        condition(Features::NONE, None, Some(3)),
    ];
    let declarations = storage(1, "read_write", "y", "f32");
    let bodies =
        ["let n = 0.0h; y[i] = f32(n);", "let n = 1.0h; y[i] = f32(n);", "y[i] = subgroupMin(2.0);", "y[i] = 3.0;"];
    let shaders = conditions.iter().zip(bodies).map(|(condition, body)| {
        let plain = shader("chosen", &["s"], &declarations, "d.s", body);
        let source = if condition.features.f16 { format!("enable f16;\n{}", plain.source) } else { plain.source };
        Shader { features: condition.features, source, ..plain }
    });
    let shaders = shaders.collect();
    let choices = (0..).zip(conditions).map(|(number, condition)| Choice {
        condition,
        scratch: vec![],
        dispatches: vec![dispatch(number, vec![writes(Place::Output(0))], dim("s", 1))],
    });
    let launch = Launch { first: 0, last: 0, choices: choices.collect() };
    fixture.launches = Some(launches(shaders, &["s"], vec![stage(1, vec![launch])]));
    fixture
}

#[test]
fn conditions_and_masks_decide_what_is_taken() {
    let fixture = chosen();
    let taken = |mask: Mask, rows: usize| -> Option<f32> {
        let gpu = GpuOptions { mask, ..GpuOptions::default() };
        let mut session = fixture.model(on(gpu)).session(&[]).unwrap();
        let x = vec![9.0; rows];
        let outputs = session.run("main", &[("x", TensorRef::f32(&[rows], &x).unwrap())]).ok()?;
        Some(outputs.get("y").unwrap().as_f32().unwrap()[0])
    };
    let of = |class| Mask { class: Some(class), ..Mask::default() };
    let (adapter, features) = model(&fixture).adapter().map(|(info, features)| (info.clone(), features)).unwrap();
    let cpu = of(AdapterClass::Cpu);
    if features.f16 {
        assert_eq!(taken(of(AdapterClass::Gpu), 1), Some(0.0), "{adapter:?}");
        assert_eq!(taken(cpu, 1), Some(1.0));
    }
    if features.subgroups {
        assert_eq!(taken(cpu, 2), Some(2.0));
    }
    assert_eq!(taken(Mask { no_f16: true, no_subgroups: true, ..cpu }, 1), Some(3.0));
    assert_eq!(taken(cpu, 3), Some(3.0));
    assert_eq!(taken(cpu, 4), None);
}
