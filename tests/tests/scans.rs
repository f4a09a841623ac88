//! Recurrences compiled and executed, against the interpreter: on the CPU with generated and with portable
//! code, on a GPU with and without features, with the shaders for adapters that are CPUs and for GPUs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::{DType, Dim, Entry, Module, Task, Tensor, text, verify};
use castiron_runtime::artifact::{Artifact, format};
use castiron_runtime::bind::{BindError, BindFault};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::AdapterClass;
use castiron_runtime::program::{KernelBody, Scan};
use castiron_runtime::session::{Model, Options, RunError, Session};
use castiron_runtime::tensor::TensorRef;
use castiron_tests::{artifact, compiled};

/// Batch and length.
const SIZES: [(usize, usize); 4] = [(2, 7), (2, 1), (1, 5), (3, 33)];

fn modules() -> Vec<(String, Module)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ir");
    let mut paths: Vec<PathBuf> =
        ["gated_delta_rule", "rwkv4", "selective_scan"].map(|name| root.join(format!("{name}.ir"))).into();
    let entries = std::fs::read_dir(root.join("scans")).unwrap();
    paths.extend(entries.map(|entry| entry.unwrap().path()));
    paths.sort();
    let module = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let module = text::parse_module(&std::fs::read_to_string(path).unwrap()).unwrap();
        verify::verify(&module).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, module)
    };
    paths.into_iter().map(module).collect()
}

/// Inputs of an entry that look random, between -1 and 1.
fn inputs(entry: &Entry, (b, l): (usize, usize)) -> Vec<Tensor> {
    let value = |name: &str| Some(if name == "b" { b } else { l });
    let mut state = 12345_u32;
    let tensor = |&argument: &castiron_ir::ValueId| {
        let shape = &entry.body.type_of(argument).shape;
        let shape: Vec<usize> = shape.iter().map(|d| d.evaluate(&value).unwrap()).collect();
        Tensor::from_fn(DType::F32, &shape, |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        })
    };
    entry.body.arguments.iter().map(tensor).collect()
}

fn run(session: &mut Session, entry: &Entry, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, RunError> {
    let data: Vec<Vec<f32>> = inputs.iter().map(|t| t.data.iter().map(|&x| x as f32).collect()).collect();
    let named = entry.body.argument_names.iter().zip(inputs).zip(&data);
    let named: Vec<_> =
        named.map(|((name, t), data)| (name.as_str(), TensorRef::f32(&t.shape, data).unwrap())).collect();
    let outputs = session.run(&entry.name, &named)?;
    Ok(entry.outputs.iter().map(|name| outputs.get(name).unwrap().as_f32().unwrap().to_vec()).collect())
}

#[track_caller]
fn assert_near(what: &str, found: &[Vec<f32>], expected: &[Tensor]) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.data.len(), "{what}, output {i}");
        let largest = expected.data.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        for (at, (a, b)) in found.iter().zip(&expected.data).enumerate() {
            let allowed = 2e-5 * b.abs().max(0.1 * largest);
            assert!((f64::from(*a) - b).abs() <= allowed, "{what}, output {i}[{at}] is {a} instead of {b}");
        }
    }
}

/// Runs every module with some options.
fn check(options: &[(&str, Options)], wgsl: bool) {
    let folder = tempfile::tempdir().unwrap();
    for (name, module) in modules() {
        let path = folder.path().join(format!("{name}.iron"));
        compiled::write(&module, &compiled::Nothing, Task::FeatureExtraction, wgsl, &path);
        let entry = &module.entries[0];
        for (kind, options) in options {
            let model = Model::open(&path, options.clone()).unwrap();
            let is_scan = |body: &KernelBody| matches!(body, KernelBody::Scan(_));
            assert!(model.program().entries[0].kernels.iter().any(|kernel| is_scan(&kernel.body)), "{name}");
            for sizes in SIZES {
                let mut session = model.session(&[("b", sizes.0)][..entry.states.len()]).unwrap();
                let mut states = HashMap::new();
                // What a state holds after one call, the next one reads.
                for call in 0..2 {
                    let inputs = inputs(entry, sizes);
                    let binding = Binding::from([("b".to_owned(), sizes.0)]);
                    let expected = run_entry(entry, &inputs, &binding, &|_| None, &mut states).unwrap();
                    let found = run(&mut session, entry, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
                    assert_near(&format!("{name} on {kind} with {sizes:?}, call {call}"), &found, &expected);
                }
            }
        }
    }
}

#[test]
fn the_cpu_agrees_with_the_interpreter() {
    let kinds = [("AVX2", Isa::Avx2), ("AVX-512", Isa::Avx512), ("portable code", Isa::Portable)];
    check(&kinds.map(|(name, isa)| (name, compiled::cpu(isa))), false);
}

#[test]
fn gpus_agree_with_the_interpreter() {
    let of = |class, plain| Mask { class: Some(class), no_f16: plain, no_subgroups: plain, ..Mask::default() };
    let masks = [
        ("a CPU's adapter", of(AdapterClass::Cpu, false)),
        ("a CPU's adapter without features", of(AdapterClass::Cpu, true)),
        ("a GPU", of(AdapterClass::Gpu, false)),
        ("a GPU without features", of(AdapterClass::Gpu, true)),
    ];
    check(&masks.map(|(name, mask)| (name, compiled::gpu(mask))), true);
}

/// The steps from one to another of a tensor `[b, l, ..]`.
fn part(x: &Tensor, from: usize, to: usize) -> Tensor {
    let mut shape = x.shape.clone();
    shape[1] = to - from;
    Tensor::from_fn(x.dtype, &shape, |index| {
        let mut at = index.to_vec();
        at[1] += from;
        x.at(&at)
    })
}

#[test]
fn two_halves_with_their_state_are_the_whole() {
    let (_, module) = modules().into_iter().find(|(name, _)| name == "decoding").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoding.iron");
    compiled::write(&module, &compiled::Nothing, Task::FeatureExtraction, true, &path);
    let (entry, (b, l, cut)) = (&module.entries[0], (2, 9, 4));
    let whole = inputs(entry, (b, l));
    let binding = Binding::from([("b".to_owned(), b)]);
    let expected = run_entry(entry, &whole, &binding, &|_| None, &mut HashMap::new()).unwrap();
    for options in [compiled::cpu(Isa::detect()), compiled::gpu(Mask::default())] {
        let model = Model::open(&path, options).unwrap();
        let kernels = &model.program().entries[0].kernels;
        assert_eq!(kernels.len(), 1, "the state is replaced where it lies");
        let mut session = model.session(&[("b", b)]).unwrap();
        for (from, to) in [(0, cut), (cut, cut + 1), (cut + 1, l)] {
            let inputs: Vec<Tensor> = whole.iter().map(|x| part(x, from, to)).collect();
            assert_near("a part", &run(&mut session, entry, &inputs).unwrap(), &[part(&expected[0], from, to)]);
        }
    }
}

#[test]
fn addresses_are_checked_on_every_device() {
    let (_, module) = modules().into_iter().find(|(name, _)| name == "decoding").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoding.iron");
    compiled::write(&module, &compiled::Nothing, Task::FeatureExtraction, true, &path);
    let file = std::fs::read(path).unwrap();
    let twice = |dim: &mut Dim| *dim = dim.clone() * 2.into();
    let changes: [&dyn Fn(&mut Scan); 3] =
        [&|scan| twice(&mut scan.steps), &|scan| twice(&mut scan.space[0]), &|scan| {
            scan.operands.outputs[0].offset = 1.into()
        }];
    for change in changes {
        let mut program = Artifact::from_bytes(&file).unwrap().program().clone();
        match &mut program.entries[0].kernels[0].body {
            KernelBody::Scan(scan) => change(scan),
            other => panic!("{other:?}"),
        }
        let bytes = artifact::replace(&file, format::PROGRAM, &postcard::to_stdvec(&program).unwrap());
        for options in [compiled::cpu(Isa::detect()), compiled::gpu(Mask::default())] {
            let model = Model::new(Artifact::from_bytes(&bytes).unwrap(), options).unwrap();
            let mut session = model.session(&[("b", 2)]).unwrap();
            let found = run(&mut session, &module.entries[0], &inputs(&module.entries[0], (2, 3)));
            let Err(RunError::Bind(BindError::Kernel { fault, .. })) = found else { panic!("{found:?}") };
            assert!(matches!(fault, BindFault::Bounds { .. }), "{fault}");
        }
    }
}
