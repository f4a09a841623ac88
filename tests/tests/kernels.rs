//! Convolutions, paddings, the largest elements and products that have no kernel of their own, written as IR
//! text, compiled and executed on the CPU and on a GPU, against the interpreter.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_ir::{
    DType, Entry, Module, Op, Region, Storage, StoredTensor, Task, Tensor, TensorSource, Type, template,
};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::AdapterClass;
use castiron_runtime::session::{Model, Options};
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled;

const TOLERANCE: f64 = 2e-5;

/// The params of a module, of any values.
struct Params(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Params {
    fn new(region: &Region) -> Params {
        let mut params = HashMap::new();
        for node in &region.nodes {
            if let Op::Param(param) = &node.op {
                let mut shape: Vec<usize> = param.ty.shape.iter().map(|d| d.as_constant().unwrap() as usize).collect();
                if param.stack.is_some() {
                    shape.remove(0);
                }
                for i in 0..param.count() {
                    let index = |name: &str| (param.stack.as_deref() == Some(name)).then_some(i);
                    let name = template::expand(&param.name, &index).unwrap();
                    let values = noise(31 * i as u64 + name.len() as u64 + 31, shape.iter().product());
                    params.insert(name, (shape.clone(), values));
                }
            }
        }
        Params(params)
    }

    fn interpreted(&self, name: &str) -> Option<Tensor> {
        let (shape, values) = self.0.get(name)?;
        Some(Tensor { dtype: DType::F32, shape: shape.clone(), data: values.iter().map(|&x| x.into()).collect() })
    }
}

impl TensorSource for Params {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        Some((Storage::Dense(DType::F32), &self.0.get(name)?.0))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (shape, values) = self.0.get(name)?;
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Some(StoredTensor { shape: shape.clone(), storage: Storage::Dense(DType::F32), bytes: bytes.into() })
    }
}

/// Numbers in -1..1, in steps that make some of them equal.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) % 65) as f32 / 32.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// An input of an entry. Those of `top_k` hold what is hard to order.
fn input(entry: &Entry, number: usize, ty: &Type, binding: &Binding) -> Tensor {
    let value = |symbol: &str| binding.get(symbol).copied();
    let shape: Vec<usize> = ty.shape.iter().map(|d| d.evaluate(&value).unwrap()).collect();
    let hard = [f32::NAN, -f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY];
    let mut values = noise(number as u64 + 1, shape.iter().product());
    if entry.name.starts_with("top_k") {
        values.iter_mut().step_by(5).enumerate().for_each(|(i, x)| *x = hard[i % hard.len()]);
    }
    let as_int = |x: f32| if x.is_finite() { (x * 4.0) as i32 as f32 } else { 0.0 };
    let data = values.into_iter().map(|x| if ty.dtype == DType::I32 { as_int(x) } else { x });
    Tensor { dtype: ty.dtype, shape, data: data.map(f64::from).collect() }
}

/// Values of an entry's symbols: few, and more than a tile has.
fn bindings() -> [Binding; 2] {
    let bind = |values: [usize; 6]| {
        ["b", "n", "t", "l", "h", "w"].into_iter().zip(values).map(|(name, value)| (name.to_owned(), value))
    };
    [[1, 1, 1, 7, 5, 9], [3, 2, 6, 37, 13, 22]].map(|values| bind(values).chain([("d".to_owned(), 3)]).collect())
}

struct Case {
    name: String,
    module: Module,
    params: Params,
}

impl Case {
    fn open(path: &Path) -> Case {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let module = parse_module(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        verify(&module).unwrap_or_else(|e| panic!("{name}: {e}"));
        let params = Params::new(&module.entries[0].body);
        Case { name, module, params }
    }

    fn entry(&self) -> &Entry {
        &self.module.entries[0]
    }

    /// Runs the entry on a model; gives where it differs from the interpreter.
    fn check(&self, model: &Model) -> Result<(), String> {
        let entry = self.entry();
        let types = entry.body.types_of(&entry.body.arguments);
        for binding in bindings() {
            let inputs: Vec<Tensor> = types.iter().enumerate().map(|(i, ty)| input(entry, i, ty, &binding)).collect();
            let params = |name: &str| self.params.interpreted(name);
            let expected = run_entry(entry, &inputs, &Binding::new(), &params, &mut HashMap::new()).unwrap();
            let floats: Vec<Vec<f32>> = inputs.iter().map(|t| t.data.iter().map(|&x| x as f32).collect()).collect();
            let ints: Vec<Vec<i32>> = inputs.iter().map(|t| t.data.iter().map(|&x| x as i32).collect()).collect();
            let tensor = |i: usize| match inputs[i].dtype {
                DType::I32 => TensorRef::i32(&inputs[i].shape, &ints[i]).unwrap(),
                _ => TensorRef::f32(&inputs[i].shape, &floats[i]).unwrap(),
            };
            let names = entry.body.argument_names.iter().enumerate();
            let named: Vec<(&str, TensorRef<'_>)> = names.map(|(i, name)| (name.as_str(), tensor(i))).collect();
            let mut session = model.session(&[]).map_err(|e| e.to_string())?;
            let outputs = session.run(&entry.name, &named).map_err(|e| e.to_string())?;
            for (name, expected) in entry.outputs.iter().zip(&expected) {
                let output = outputs.get(name).unwrap();
                let found: Vec<f64> = match expected.dtype {
                    DType::I32 => output.as_i32().unwrap().iter().map(|&x| x.into()).collect(),
                    _ => output.as_f32().unwrap().iter().map(|&x| x.into()).collect(),
                };
                let is_exact = entry.name.starts_with("top_k") || expected.dtype == DType::I32;
                if let Some(difference) = difference(&found, &expected.data, is_exact) {
                    return Err(format!("with {binding:?}, {name}{difference}"));
                }
            }
        }
        Ok(())
    }
}

/// The first element that is not as expected.
fn difference(found: &[f64], expected: &[f64], is_exact: bool) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!(" has {} elements, not {}", found.len(), expected.len()));
    }
    let is_right = |a: f64, b: f64| match is_exact {
        true => (a as f32).to_bits() == (b as f32).to_bits(),
        false => (a - b).abs() <= TOLERANCE * b.abs().max(1.0),
    };
    let at = (0..found.len()).find(|&i| !is_right(found[i], expected[i]))?;
    Some(format!("[{at}] is {}, not {}", found[at], expected[at]))
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ir");
    let files = std::fs::read_dir(root.join("kernels")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    paths.extend(["conv2d_strided.ir", "moe_top2.ir"].map(|name| root.join(name)));
    paths.sort();
    paths.iter().map(|path| Case::open(path)).collect()
}

fn check(options: &[(&str, Options)], wgsl: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for case in cases() {
        let artifact = folder.path().join(format!("{}.iron", case.name));
        compiled::write(&case.module, &case.params, Task::FeatureExtraction, wgsl, &artifact);
        for (what, options) in options {
            let model = Model::open(&artifact, options.clone()).unwrap();
            failures.extend(case.check(&model).err().map(|e| format!("{}, {what}: {e}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn cpus_agree_with_the_interpreter() {
    check(&[("generated", compiled::cpu(Isa::Avx2)), ("portable", compiled::cpu(Isa::Portable))], false);
}

#[test]
fn gpus_agree_with_the_interpreter() {
    let plain = Mask { no_f16: true, no_subgroups: true, ..Mask::default() };
    let of = |class| compiled::gpu(Mask { class: Some(class), ..plain });
    check(&[("all features", compiled::gpu(Mask::default())), ("no features", of(AdapterClass::Gpu))], true);
}
