//! Damaged launches and shaders of artifacts give typed errors or run: no panic, no hang.
//!
//! A damaged launch is executed alone, since drivers take long to compile what surrounds it.

use std::collections::BTreeSet;
use std::path::Path;

use castiron::compiler::{self, Options};
use castiron_frontends::checkpoint::Checkpoint;
use castiron_ir::Dim;
use castiron_runtime::artifact::{Artifact, format};
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::{AdapterClass, Binding, Choice, Condition, GpuProgram, Resource};
use castiron_runtime::program::view::Place;
use castiron_runtime::session::{Model, RunError};
use castiron_runtime::tensor::TensorRef;
use castiron_tests::mutation::Mutation;
use castiron_tests::{artifact, compiled};
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Damaged launches of each fixture that are executed, damaged shaders, and damaged bytes.
const LAUNCHES: usize = 100;
const SHADERS: usize = 40;
const BYTES: usize = 300;

/// A fixture compiled for GPUs, with one of its entries.
struct Subject {
    file: Vec<u8>,
    launches: GpuProgram,
    /// Number of the entry.
    entry: usize,
}

/// Where a choice is: its stage, launch and number.
type At = [usize; 3];

impl Subject {
    fn new(fixture: &str, entry: &str) -> Subject {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let compilation = compiler::compile(&checkpoint, &Options { wgsl: true, ..Options::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.iron");
        compilation.write(&path, &|_| {}).unwrap();
        let file = std::fs::read(path).unwrap();
        let intact = Artifact::from_bytes(&file).unwrap();
        let entry = intact.program().entries.iter().position(|e| e.name == entry).unwrap();
        Subject { launches: intact.gpu_program().unwrap().unwrap(), entry, file }
    }

    /// The artifact with other launches.
    fn with(&self, launches: &GpuProgram) -> Vec<u8> {
        artifact::replace(&self.file, format::WGSL, &postcard::to_stdvec(launches).unwrap())
    }

    /// The ways to execute launches of the entry whose shaders are of different kinds, by the first words
    /// of their names: each kind takes a driver a second or more.
    fn choices(&self) -> Vec<At> {
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for (i, stage) in self.launches.entries[self.entry].stages.iter().enumerate() {
            for (j, launch) in stage.launches.iter().enumerate() {
                for (k, choice) in launch.choices.iter().enumerate() {
                    let name = |shader: u32| &self.launches.shaders[shader as usize].name;
                    let kind = |shader: u32| name(shader).splitn(3, '_').take(2).collect::<Vec<_>>();
                    let kinds: Vec<_> = choice.dispatches.iter().map(|dispatch| kind(dispatch.shader)).collect();
                    if seen.insert(kinds) {
                        found.push([i, j, k]);
                    }
                }
            }
        }
        found
    }

    /// The launches with this choice alone: everything else does nothing.
    fn alone(&self, at: At) -> GpuProgram {
        let mut launches = self.launches.clone();
        for (i, stage) in launches.entries[self.entry].stages.iter_mut().enumerate() {
            for (j, launch) in stage.launches.iter_mut().enumerate() {
                let taken = if [i, j] == at[..2] { at[2] } else { 0 };
                launch.choices = vec![launch.choices.swap_remove(taken)];
                let Choice { condition, scratch, dispatches } = &mut launch.choices[0];
                *condition = Condition { features: condition.features, ..Condition::default() };
                if [i, j] != at[..2] {
                    (*condition, *scratch, *dispatches) = (Condition::default(), Vec::new(), Vec::new());
                }
            }
        }
        launches
    }

    /// Opens the artifact with some launches and executes the entry, with three tokens and with one.
    fn run(&self, launches: &GpuProgram) -> Result<(), RunError> {
        let model = Model::new(Artifact::from_bytes(&self.with(launches))?, compiled::gpu(Mask::default()))?;
        let entry = &model.program().entries[self.entry];
        let symbols: &[_] = if model.program().states.is_empty() { &[] } else { &[("b", 1), ("c", 8)] };
        let mut session = model.session(symbols)?;
        for tokens in [3, 1] {
            let (ids, row) = ([5, 3, 8], [1, tokens]);
            let mut inputs = Vec::new();
            for (name, ty) in &entry.inputs {
                let shape = &row[..ty.shape.len()];
                let values = match name.as_str() {
                    "past" => &[2],
                    "last" | "token_type_ids" => &[0; 3][..shape.iter().product()],
                    _ => &ids[..shape.iter().product()],
                };
                inputs.push((name.as_str(), TensorRef::i32(shape, values)?));
            }
            session.run(&entry.name, &inputs)?;
        }
        Ok(())
    }
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// An extent; none is so large that a device would be busy for long.
    fn dim(&mut self) -> Dim {
        let constant: Dim = self.pick(&[0_i64, 1, 3, 64, 1000, 1 << 40, i64::MAX]).into();
        let symbol = Dim::symbol(self.pick(&["b", "s", "c", "z"]));
        match self.below(4) {
            0 => symbol,
            1 => symbol - constant,
            2 => symbol * self.pick(&[2, 50]).into(),
            _ => constant,
        }
    }

    fn resource(&mut self) -> Resource {
        let number = self.pick(&[0_u32, 1, 2, 3, 5, 8, 13, 99, u32::MAX]);
        Resource::Place(match self.below(9) {
            0 => Place::Input(number),
            1 => Place::Output(number),
            2 => Place::State(number),
            3 => Place::Weight(number),
            4 => Place::Buffer(number),
            5 => Place::Index(number),
            6 => return Resource::Scratch(number),
            7 => return Resource::Status,
            _ => {
                let [offset, bytes] = [0; 2].map(|_| self.pick(&[0_u64, 4, 6, 64, 256, 1 << 20, u64::MAX]));
                return Resource::Part { weight: number, offset, bytes };
            }
        })
    }
}

/// Damages a launch that stands alone.
fn damage(random: &mut Random, launches: &mut GpuProgram, number: usize, [i, j, _]: At) {
    let shaders = launches.shaders.len();
    let entry = &mut launches.entries[number];
    let launch = &mut entry.stages[i].launches[j];
    let choice = &mut launch.choices[0];
    let at = random.below(choice.dispatches.len());
    let dispatch = &mut choice.dispatches[at];
    let binding = random.below(dispatch.bindings.len());
    match random.below(16) {
        0 => dispatch.bindings[binding].resource = random.resource(),
        1 | 2 => {
            let resource = random.resource();
            let is_constant =
                matches!(resource, Resource::Place(Place::Input(_) | Place::Weight(_)) | Resource::Part { .. });
            dispatch.bindings[binding] = Binding { resource, read_write: !is_constant };
        }
        3 => {
            let other = random.below(dispatch.bindings.len());
            dispatch.bindings.swap(binding, other);
        }
        4 => drop(dispatch.bindings.remove(binding)),
        5 => dispatch.bindings.insert(binding, Binding { resource: random.resource(), read_write: true }),
        6 => dispatch.bindings[binding].read_write ^= true,
        7 => dispatch.shader = random.pick(&[0, 1, shaders as u32 / 2, shaders as u32 - 1, u32::MAX]),
        8 => dispatch.grids.push(vec![(random.dim(), random.pick(&[0, 1, 64, u32::MAX]))]),
        9 | 10 => {
            let grid = random.below(dispatch.grids.len());
            let axis = random.below(dispatch.grids[grid].len().max(1));
            dispatch.grids[grid].drain(axis..);
            dispatch.grids[grid].push((random.dim(), random.pick(&[0, 1, 1, 64, u32::MAX])));
        }
        11 => choice.scratch.push(random.dim()),
        12 => choice.scratch = vec![random.dim()],
        13 => match random.below(2) {
            0 => choice.condition.at_most = Some((random.dim(), 3)),
            _ => choice.condition.class = Some(AdapterClass::Gpu),
        },
        14 => match random.below(4) {
            0 => entry.symbols.reverse(),
            1 => drop(entry.symbols.pop()),
            2 => entry.symbols.clear(),
            _ => entry.symbols.push("z".into()),
        },
        _ => match random.below(4) {
            0 => launch.first += 1,
            1 => launch.last = u32::MAX,
            2 => entry.stages[i].count += 1,
            _ => drop(entry.stages[i].launches.remove(j)),
        },
    }
}

fn damaged_launches(subject: &Subject) {
    let (choices, mut random) = (subject.choices(), Random(7));
    let (mut ran, mut refused, mut failed) = (0, 0, 0);
    for case in 0..LAUNCHES {
        let at = choices[case % choices.len()];
        let mut launches = subject.alone(at);
        damage(&mut random, &mut launches, subject.entry, at);
        match subject.run(&launches) {
            Ok(()) => ran += 1,
            Err(RunError::Artifact(_)) => refused += 1,
            Err(RunError::Gpu(_) | RunError::Bind(_) | RunError::Memory(_) | RunError::Index { .. }) => failed += 1,
            Err(other) => panic!("case {case}: {other}"),
        }
    }
    let least = LAUNCHES / 10;
    assert!(ran > least && refused > least && failed > least, "{ran} ran, {refused} refused, {failed} failed");
}

/// One thing of a shader's text becomes another.
fn damage_text(random: &mut Random, text: &str) -> String {
    let changes = [
        ("fn main(", "fn other("),
        ("@compute", ""),
        ("@workgroup_size(", "@workgroup_size(0u + "),
        ("@workgroup_size(", "@workgroup_size(100000u * "),
        ("@binding(1)", "@binding(7)"),
        ("@binding(1)", "@binding(2)"),
        ("@group(0)", "@group(3)"),
        ("var<uniform>", "var<storage>"),
        ("var<storage, read>", "var<storage, read_write>"),
        ("var<storage, read_write>", "var<storage, read>"),
        ("var<workgroup>", "var<private>"),
        ("array<f32>", "array<vec3<f32>>"),
        ("array<f32, ", "array<f32, 100000 + "),
        ("f32", "f16"),
        ("u32", "i32"),
        ("return", "discard"),
        ("workgroupBarrier()", "if (local == 0u) { workgroupBarrier(); }"),
        ("struct", "struct {"),
        ("{", "{{"),
        (";", ""),
        ("]", ""),
        ("+", "+ 0xffffffffu +"),
        ("(", "(((((((("),
        ("@builtin(workgroup_id)", "@builtin(position)"),
        ("@builtin(workgroup_id)", "@builtin(local_invocation_id)"),
    ];
    let (from, to) = random.pick(&changes);
    let places: Vec<usize> = text.match_indices(from).map(|(at, _)| at).collect();
    if places.is_empty() {
        return text.chars().take(random.below(text.len())).collect();
    }
    let at = random.pick(&places);
    [&text[..at], to, &text[at + from.len()..]].concat()
}

/// Pipelines are made of damaged shaders, but nothing is executed: a damaged loop may have no end.
fn damaged_shaders(subject: &Subject) {
    let (choices, mut random) = (subject.choices(), Random(11));
    let mut failed = 0;
    for case in 0..SHADERS {
        let [i, j, k] = choices[case % choices.len()];
        let mut launches = subject.alone([i, j, k]);
        let dispatches = &mut launches.entries[subject.entry].stages[i].launches[j].choices[0].dispatches;
        dispatches.iter_mut().for_each(|dispatch| dispatch.grids.clear());
        let shader = random.pick(dispatches).shader as usize;
        let source = damage_text(&mut random, &launches.shaders[shader].source);
        launches.shaders[shader].source = source;
        match subject.run(&launches) {
            Ok(()) => {}
            Err(RunError::Gpu(_)) => failed += 1,
            Err(other) => panic!("case {case}: {other}"),
        }
    }
    assert!(failed > SHADERS / 4, "{failed} failed");
}

/// What is read of damaged bytes is refused, or follows all rules.
fn damaged_bytes(subject: &Subject) {
    let intact = postcard::to_stdvec(&subject.launches).unwrap();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut refused = 0;
    for _ in 0..BYTES {
        let mutation = Mutation::any().new_tree(&mut runner).unwrap().current();
        let file = artifact::replace(&subject.file, format::WGSL, &mutation.apply(&intact));
        refused += u32::from(Artifact::from_bytes(&file).unwrap().gpu_program().is_err());
    }
    assert!(refused > 0);
}

#[test]
fn damaged_decoders() {
    let subject = Subject::new("llama-gqa", "step");
    damaged_bytes(&subject);
    damaged_launches(&subject);
    damaged_shaders(&subject);
}

#[test]
fn damaged_encoders() {
    let subject = Subject::new("bert-base", "forward");
    damaged_bytes(&subject);
    damaged_launches(&subject);
    damaged_shaders(&subject);
}
