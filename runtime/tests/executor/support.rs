//! Programs and artifacts written by hand.
#![allow(dead_code)] // Each test binary uses a part.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Description, Dim, Generation, Task, Type};
use castiron_runtime::artifact::{Artifact, format};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::program::gpu::GpuProgram;
use castiron_runtime::program::row::{Access, RowNode, RowProgram, RowReduce};
use castiron_runtime::program::view::{Indirect, Place, View};
use castiron_runtime::program::{
    Buffer, EntryProgram, Kernel, KernelBody, Program, RowOperands, Rows, StateSlot, Step, Weight, WeightForm,
};
use castiron_runtime::session::{Model, Options};
use castiron_runtime::weights::{Encoding, PackedMatrix, Source};

/// A program with the bytes of its weights.
#[derive(Default)]
pub struct Fixture {
    pub weights: Vec<(Weight, Vec<Vec<u8>>)>,
    pub states: Vec<StateSlot>,
    pub entries: Vec<EntryProgram>,
    /// How GPUs execute the entries.
    pub launches: Option<GpuProgram>,
}

impl Fixture {
    /// A dense f32 weight with its instances.
    pub fn dense(&mut self, shape: &[usize], instances: &[Vec<f32>]) -> Place {
        let form = WeightForm::Dense { dtype: DType::F32, shape: shape.to_vec() };
        let bytes = instances.iter().map(|values| values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        self.weight(form, bytes)
    }

    /// A packed weight of one group, `[n, k]`, with its instances.
    pub fn packed(&mut self, encoding: Encoding, [n, k]: [usize; 2], instances: &[Vec<f32>]) -> Place {
        self.grouped(PackedMatrix { encoding, groups: 1, n, k }, instances)
    }

    /// A packed weight, `[groups, n, k]`, with its instances.
    pub fn grouped(&mut self, matrix: PackedMatrix, instances: &[Vec<f32>]) -> Place {
        let bytes = instances.iter().map(|values| pack(&matrix, values)).collect();
        self.weight(WeightForm::Packed(matrix), bytes)
    }

    fn weight(&mut self, form: WeightForm, bytes: Vec<Vec<u8>>) -> Place {
        let weight = Weight { label: "w".into(), instances: bytes.len() as u32, form, encodings: Vec::new() };
        self.weights.push((weight, bytes));
        Place::Weight(self.weights.len() as u32 - 1)
    }

    pub fn state(&mut self, name: &str, instances: u32, ty: Type) -> Place {
        self.states.push(StateSlot { name: name.into(), instances, ty });
        Place::State(self.states.len() as u32 - 1)
    }

    pub fn program(&self) -> Program {
        let weights = self.weights.iter().map(|(w, _)| w.clone()).collect();
        Program { weights, states: self.states.clone(), entries: self.entries.clone() }
    }

    /// The bytes of an artifact.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with(&postcard::to_stdvec(&self.program()).unwrap())
    }

    /// The bytes of an artifact with some program.
    pub fn bytes_with(&self, program: &[u8]) -> Vec<u8> {
        let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
        for (number, (_, instances)) in self.weights.iter().enumerate() {
            for (instance, bytes) in instances.iter().enumerate() {
                let mut bytes = bytes.clone();
                bytes.resize(format::padded(bytes.len()), 0);
                tensors.push((format::weight_name(number as u32, instance as u32), bytes));
            }
        }
        tensors.push((format::PROGRAM.into(), program.to_vec()));
        if let Some(launches) = &self.launches {
            tensors.push((format::WGSL.into(), postcard::to_stdvec(launches).unwrap()));
        }
        tensors.push((format::DESCRIPTION.into(), serde_json::to_vec(&description()).unwrap()));
        file(&tensors)
    }

    pub fn model(&self, options: Options) -> Model {
        Model::new(Artifact::from_bytes(&self.bytes()).unwrap(), options).unwrap()
    }
}

/// A safetensors file of byte tensors.
pub fn file(tensors: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let metadata = serde_json::json!({
        format::KEY_FORMAT: format::FORMAT, format::KEY_VERSION: format::VERSION,
        format::KEY_CASTIRON: "test", format::KEY_SOURCE: "none",
    });
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for (name, bytes) in tensors {
        let offsets = [end, end + bytes.len()];
        end += bytes.len();
        let info = serde_json::json!({ "dtype": "U8", "shape": [bytes.len()], "data_offsets": offsets });
        header.insert(name.clone(), info);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(format::padded(header.len() + 8) - 8, b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    tensors.iter().for_each(|(_, bytes)| file.extend(bytes));
    file
}

pub fn description() -> Description {
    Description {
        architecture: "Test".into(),
        task: Task::FeatureExtraction,
        labels: vec![],
        exclusive_labels: false,
        max_positions: None,
        recompute_beyond: None,
        max_input: None,
        generation: Generation::default(),
    }
}

pub fn pack(matrix: &PackedMatrix, values: &[f32]) -> Vec<u8> {
    let size = matrix.panel_bytes().unwrap();
    let mut bytes = vec![0; matrix.bytes().unwrap()];
    for panel in 0..matrix.panels() {
        for group in 0..matrix.groups {
            let read = |column: usize, out: &mut [f32]| {
                out.copy_from_slice(&values[(group * matrix.n + column) * matrix.k..][..matrix.k]);
            };
            let room = &mut bytes[(panel * matrix.groups + group) * size..][..size];
            matrix.pack_panel(panel, Source::Values(&read), room).unwrap();
        }
    }
    bytes
}

/// A product of symbols and a factor: `dim("b s", 4)` is `4·b·s`.
pub fn dim(symbols: &str, factor: i64) -> Dim {
    symbols.split_whitespace().fold(Dim::from(factor), |product, name| product * Dim::symbol(name))
}

/// An f32 view.
pub fn view(place: Place, strides: impl IntoIterator<Item = impl Into<Dim>>) -> View {
    View {
        place,
        dtype: DType::F32,
        offset: 0.into(),
        strides: strides.into_iter().map(Into::into).collect(),
        indirect: None,
    }
}

/// The view of another element type.
pub fn of(dtype: DType, view: View) -> View {
    View { dtype, ..view }
}

/// The view from another element on.
pub fn from(offset: impl Into<Dim>, view: View) -> View {
    View { offset: offset.into(), ..view }
}

/// The view at indices from memory.
pub fn at(indices: View, stride: impl Into<Dim>, extent: impl Into<Dim>, view: View) -> View {
    let indirect = Indirect { indices, stride: stride.into(), extent: extent.into() };
    View { indirect: Some(Box::new(indirect)), ..view }
}

pub fn operands(program: RowProgram, inputs: Vec<View>, outputs: Vec<View>) -> RowOperands {
    RowOperands { program, inputs, outputs }
}

pub fn rows(space: impl IntoIterator<Item = impl Into<Dim>>, operands: RowOperands) -> KernelBody {
    KernelBody::Rows(Rows { space: space.into_iter().map(Into::into).collect(), operands })
}

pub fn program(inputs: &[Access], nodes: &[RowNode], stores: &[u16]) -> RowProgram {
    RowProgram { inputs: inputs.to_vec(), nodes: nodes.to_vec(), stores: stores.to_vec() }
}

pub fn copy() -> RowProgram {
    program(&[Access::Element], &[RowNode::Input(0)], &[0])
}

/// `a + b`
pub fn add() -> RowProgram {
    binary(BinaryOp::Add)
}

pub fn binary(op: BinaryOp) -> RowProgram {
    let nodes = [RowNode::Input(0), RowNode::Input(1), RowNode::Binary(op, 0, 1)];
    program(&[Access::Element; 2], &nodes, &[2])
}

/// `x · w / sqrt(mean x² + 1e-5)`
pub fn rms_norm() -> RowProgram {
    let nodes = [
        RowNode::Input(0),
        RowNode::Input(1),
        RowNode::Binary(BinaryOp::Mul, 0, 0),
        RowNode::Reduce(RowReduce::Sum, 2),
        RowNode::Length,
        RowNode::Binary(BinaryOp::Div, 3, 4),
        RowNode::Constant(1e-5),
        RowNode::Binary(BinaryOp::Add, 5, 6),
        RowNode::Unary(UnaryOp::Rsqrt, 7),
        RowNode::Binary(BinaryOp::Mul, 0, 8),
        RowNode::Binary(BinaryOp::Mul, 9, 1),
    ];
    program(&[Access::Element, Access::Element], &nodes, &[10])
}

pub fn kernel(label: &str, body: KernelBody) -> Kernel {
    Kernel { label: label.into(), body }
}

pub fn buffer(bytes: impl Into<Dim>, first: u32, last: u32) -> Buffer {
    Buffer { bytes: bytes.into(), first, last }
}

/// An entry that executes its kernels one after the other.
pub fn entry(
    inputs: &[(&str, Type)],
    outputs: &[(&str, Type)],
    buffers: Vec<Buffer>,
    bodies: Vec<KernelBody>,
) -> EntryProgram {
    let named = |list: &[(&str, Type)]| list.iter().map(|(n, ty)| ((*n).to_owned(), ty.clone())).collect();
    let steps = (0..bodies.len() as u32).map(Step::Kernel).collect();
    let kernels = bodies.into_iter().enumerate().map(|(i, body)| kernel(&format!("k{i}"), body)).collect();
    EntryProgram { name: "main".into(), inputs: named(inputs), outputs: named(outputs), buffers, kernels, steps }
}

/// Calls with every instruction set and some numbers of threads.
pub fn with_options(mut test: impl FnMut(Options)) {
    for isa in Isa::available() {
        for threads in 1..=3 {
            test(Options { threads, isa, ..Options::default() });
        }
    }
}

/// Numbers that look random, between -1 and 1.
pub fn values(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[track_caller]
pub fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "element {i}: {a} instead of {b}");
    }
}
