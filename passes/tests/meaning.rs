//! Passes keep meaning: random graphs and model layers, before and after, under the interpreter.

mod contract;
mod models;
mod random;

use std::collections::HashMap;

use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_ir::{DType, Module, Op, OpDef, Region, Tensor};
use castiron_passes::caches::{self, CacheFormat};
use castiron_passes::{Options, PASSES, Stage, run, run_named};
use proptest::prelude::*;

/// Reassociation changes the last bits; cancellation may lift them.
const TOLERANCE: f64 = 1e-9;

fn evaluate(module: &Module, inputs: &[Tensor]) -> Vec<Tensor> {
    run_entry(&module.entries[0], inputs, &Binding::new(), &random::parameter, &mut HashMap::new()).unwrap()
}

fn assert_close(expected: &[Tensor], found: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(expected.len(), found.len());
    for (a, b) in expected.iter().zip(found) {
        assert_eq!((&a.shape, a.dtype), (&b.shape, b.dtype), "{what}");
        let scale = a.data.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (x, y) in a.data.iter().zip(&b.data) {
            assert!((x - y).abs() <= tolerance * scale || (x.is_nan() && y.is_nan()), "{what}: {x} became {y}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pass_keeps_meaning(bytes in prop::collection::vec(any::<u8>(), 0..120), seed in any::<u64>()) {
        let module = random::module(&mut random::Choices::new(bytes));
        verify(&module).unwrap();
        let inputs = random::inputs(seed);
        let expected = evaluate(&module, &inputs);
        for pass in PASSES {
            let after = run_named(&[pass.name], &module).unwrap();
            assert_close(&expected, &evaluate(&after, &inputs), TOLERANCE, pass.name);
        }
        let options = Options { verify_each: true, ..Options::default() };
        let (after, _) = run(&module, Stage::Kernels, &options).unwrap();
        assert_close(&expected, &evaluate(&after, &inputs), TOLERANCE, "the pipeline");
    }

    #[test]
    fn definitions_are_recognised(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
        let (module, name) = random::definition(&mut random::Choices::new(bytes));
        let (after, _) = run(&module, Stage::Optimized, &Options::default()).unwrap();
        let body = &after.entries[0].body;
        let last = body.nodes.iter().find(|n| n.results.last() == body.results.last()).unwrap();
        prop_assert_eq!(last.op.name(), name, "{}\nbecame\n{}", module, after);
    }

    #[test]
    fn text_round_trips_before_and_after(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let module = random::module(&mut random::Choices::new(bytes));
        let (after, _) = run(&module, Stage::Kernels, &Options::default()).unwrap();
        for module in [module, after] {
            prop_assert_eq!(parse_module(&module.to_string()).unwrap(), module);
        }
    }

    #[test]
    fn clusters_keep_their_contract(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let module = random::module(&mut random::Choices::new(bytes));
        let (after, _) = run(&module, Stage::Kernels, &Options::default()).unwrap();
        contract::check(&after.entries[0].body);
    }

    #[test]
    fn some_passes_do_their_work_at_once(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let module = random::module(&mut random::Choices::new(bytes));
        for name in ["expand-conv", "cse", "dce", "fuse-softmax", "fuse-norm", "fuse-rope", "fuse-attention", "fuse-recurrence", "cluster"] {
            let once = run_named(&[name], &module).unwrap();
            let twice = run_named(&[name], &once).unwrap();
            prop_assert_eq!(once, twice, "{}", name);
        }
    }
}

/// Weights of the model entries: any smooth function of name and index.
fn weight(shape: &[usize], name: &str) -> Tensor {
    let seed: f64 = name.bytes().map(f64::from).sum();
    Tensor::from_fn(DType::F32, shape, |i| {
        let at = i.iter().enumerate().map(|(axis, &i)| (i * (7 + 4 * axis)) as f64).sum::<f64>();
        f64::from(((at + seed).sin() * 0.4) as f32)
    })
}

/// Shapes of params by name, as the entry declares them.
fn param_shapes(region: &Region, shapes: &mut HashMap<String, Vec<usize>>) {
    for node in &region.nodes {
        if let Op::Param(param) = &node.op {
            let shape: Vec<usize> = param.ty.shape.iter().map(|d| d.as_constant().unwrap() as usize).collect();
            for i in 0..3 {
                shapes.insert(param.name.replace("{i}", &i.to_string()), shape.clone());
            }
        }
        if let Some(inner) = node.op.region() {
            param_shapes(inner, shapes);
        }
    }
}

#[test]
fn llama_steps_are_the_same_before_and_after() {
    let module = models::llama();
    let mut shapes = HashMap::new();
    param_shapes(&module.entries[0].body, &mut shapes);
    let params = |name: &str| shapes.get(name).map(|s| weight(s, name));
    let binding = Binding::from([("c".to_owned(), 8)]);
    let ids = |n: usize, first: usize| Tensor::from_fn(DType::I32, &[2, n], |i| (first + 5 * i[0] + i[1]) as f64);
    let past = |n: usize| Tensor::from_fn(DType::I32, &[2], |_| n as f64);
    let steps = [[ids(4, 3), past(0)], [ids(1, 50), past(4)], [ids(2, 70), past(5)]];
    let run_all = |module: &Module| -> Vec<Tensor> {
        let mut states = HashMap::new();
        let step =
            |inputs: &[Tensor; 2]| run_entry(&module.entries[0], inputs, &binding, &params, &mut states).unwrap();
        steps.iter().flat_map(step).collect()
    };
    for format in [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8] {
        let mut module = module.clone();
        caches::narrow(&mut module, format).unwrap();
        let expected = run_all(&module);
        for stage in [Stage::Optimized, Stage::Kernels] {
            let (after, _) = run(&module, stage, &Options { verify_each: true, ..Options::default() }).unwrap();
            assert_close(&expected, &run_all(&after), 1e-6, &format!("llama, {format:?}"));
        }
    }
}

#[test]
fn bert_is_the_same_before_and_after() {
    let module = models::bert();
    let mut shapes = HashMap::new();
    param_shapes(&module.entries[0].body, &mut shapes);
    let params = |name: &str| shapes.get(name).map(|s| weight(s, name));
    let ids = Tensor::from_fn(DType::I32, &[2, 5], |i| (i[0] * 30 + i[1] * 7) as f64);
    let mask = Tensor::from_fn(DType::I32, &[2, 5], |i| f64::from(i[0] == 0 || i[1] < 3));
    let types = Tensor::from_fn(DType::I32, &[2, 5], |i| (i[1] / 3) as f64);
    let inputs = [ids, mask, types];
    let evaluate = |module: &Module| {
        run_entry(&module.entries[0], &inputs, &Binding::new(), &params, &mut HashMap::new()).unwrap()
    };
    let expected = evaluate(&module);
    let (after, _) = run(&module, Stage::Kernels, &Options { verify_each: true, ..Options::default() }).unwrap();
    assert_close(&expected, &evaluate(&after), 1e-6, "bert");
}
