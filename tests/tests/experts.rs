//! Products whose rows choose their matrix from a stack, against products with each matrix, in every kind of storage.

use std::path::Path;

use castiron_ir::{BlockFormat, DType, Storage, StoredTensor, Task, TensorSource, text};
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::WeightForm;
use castiron_runtime::program::gpu::AdapterClass;
use castiron_runtime::session::{self, Model, RunError};
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled;
use castiron_tests::parity::difference;

/// Extents of a matrix: columns that end within a panel, and a block of the largest formats.
const SHAPE: [usize; 2] = [40, 256];
const EXPERTS: usize = 3;

const CHOSEN: &str = "
entry forward(%x: f32[r,256], %i: i32[r]) -> (y) {
  %0 = param \"experts.{e}\" stack=\"e\" : f32[3,40,256]
  %1 = gather %0, %i axis=0 : f32[r,40,256]
  %2 = dot %x, %1 batch=[(0,0)] contract=[(1,2)] : f32[r,40]
  return %2
}
";

const EACH: &str = "
entry forward(%x: f32[r,256]) -> (y0, y1, y2) {
  %0 = param \"experts.0\" : f32[40,256]
  %1 = dot %x, %0 contract=[(1,1)] : f32[r,40]
  %2 = param \"experts.1\" : f32[40,256]
  %3 = dot %x, %2 contract=[(1,1)] : f32[r,40]
  %4 = param \"experts.2\" : f32[40,256]
  %5 = dot %x, %4 contract=[(1,1)] : f32[r,40]
  return %1, %3, %5
}
";

/// Matrices of any bytes, but for the places of f16 fields in each block.
struct Experts {
    storage: Storage,
    halves: &'static [usize],
}

impl TensorSource for Experts {
    fn layout(&self, _: &str) -> Option<(Storage, &[usize])> {
        Some((self.storage, &SHAPE))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (elements, bytes) = self.storage.block();
        let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        let number = |x: u32| x as f32 / 128.0 - 1.0;
        let count = SHAPE[0] * SHAPE[1];
        let mut raw: Vec<u8> = match self.storage {
            Storage::Dense(DType::F16) => {
                (0..count).flat_map(|_| half::f16::from_f32(number(next())).to_le_bytes()).collect()
            }
            Storage::Dense(DType::BF16) => {
                (0..count).flat_map(|_| half::bf16::from_f32(number(next())).to_le_bytes()).collect()
            }
            Storage::Dense(_) => (0..count).flat_map(|_| number(next()).to_le_bytes()).collect(),
            Storage::Blocks(_) => (0..count / elements * bytes).map(|_| next() as u8).collect(),
        };
        for block in raw.chunks_exact_mut(bytes) {
            for (&at, scale) in self.halves.iter().zip([1e-4_f32, 1.5e-3]) {
                block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            }
        }
        Some(StoredTensor { shape: SHAPE.to_vec(), storage: self.storage, bytes: raw.into() })
    }
}

/// Kinds of storage, with the places of f16 fields.
const STORAGES: [(Storage, &[usize]); 9] = [
    (Storage::Dense(DType::F32), &[]),
    (Storage::Dense(DType::F16), &[]),
    (Storage::Dense(DType::BF16), &[]),
    (Storage::Blocks(BlockFormat::Q8_0), &[0]),
    (Storage::Blocks(BlockFormat::Q4_0), &[0]),
    (Storage::Blocks(BlockFormat::Q2K), &[80, 82]),
    (Storage::Blocks(BlockFormat::Q3K), &[108]),
    (Storage::Blocks(BlockFormat::Q4K), &[0, 2]),
    (Storage::Blocks(BlockFormat::Q6K), &[208]),
];

fn rows_of_x(rows: usize) -> Vec<f32> {
    (0..rows * SHAPE[1]).map(|i| ((i * 37 + i / 7) % 101) as f32 / 50.0 - 1.0).collect()
}

fn chosen(artifact: &Path, choice: &[i32], options: session::Options) -> Result<Vec<f32>, RunError> {
    let model = Model::open(artifact, options).unwrap();
    let is_stack = |form: &WeightForm| matches!(form, WeightForm::Stack { count: EXPERTS, .. });
    assert!(matches!(model.program().weights.as_slice(), [weight] if is_stack(&weight.form)));
    let (x, rows, shape) = (rows_of_x(choice.len()), [choice.len()], [choice.len(), SHAPE[1]]);
    let mut session = model.smallest_session()?;
    let inputs = [("x", TensorRef::f32(&shape, &x)?), ("i", TensorRef::i32(&rows, choice)?)];
    let outputs = session.run("forward", &inputs)?;
    Ok(outputs.get("y").unwrap().as_f32()?.to_vec())
}

/// The rows that are chosen of the products with each matrix.
fn expected(artifact: &Path, choice: &[i32]) -> Vec<f32> {
    let model = Model::open(artifact, session::Options::default()).unwrap();
    let (x, shape) = (rows_of_x(choice.len()), [choice.len(), SHAPE[1]]);
    let mut session = model.smallest_session().unwrap();
    let outputs = session.run("forward", &[("x", TensorRef::f32(&shape, &x).unwrap())]).unwrap();
    let each = ["y0", "y1", "y2"].map(|name| outputs.get(name).unwrap().as_f32().unwrap().to_vec());
    let row = |(row, &expert): (usize, &i32)| each[expert as usize][row * SHAPE[0]..][..SHAPE[0]].to_vec();
    choice.iter().enumerate().flat_map(row).collect()
}

#[test]
fn every_storage_in_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let [stack, each] = ["stack.iron", "each.iron"].map(|name| folder.path().join(name));
    let mut choices = vec![vec![1], vec![2, 0], (0..37).map(|i| i * i % 3).collect()];
    // More rows of one expert than are multiplied at once.
    choices.push((0..300).map(|i| if i == 7 { 0 } else { 2 }).collect());
    for (storage, halves) in STORAGES {
        let source = Experts { storage, halves };
        compiled::write(&text::parse_module(CHOSEN).unwrap(), &source, Task::FeatureExtraction, true, &stack);
        compiled::write(&text::parse_module(EACH).unwrap(), &source, Task::FeatureExtraction, false, &each);
        for choice in &choices {
            let (rows, exact) = (choice.len(), expected(&each, choice));
            let error = difference(&exact, &chosen(&stack, choice, session::Options::default()).unwrap());
            assert!(error < 1e-5, "{storage:?}, {rows} rows on the CPU: {error}");
        }
        // Products on the CPU round activations to 8 bits where weights are quantised.
        let exact = expected(&each, &choices[2]);
        for class in [AdapterClass::Cpu, AdapterClass::Gpu] {
            let mask = Mask { class: Some(class), ..Mask::default() };
            let error = difference(&exact, &chosen(&stack, &choices[2], compiled::gpu(mask)).unwrap());
            assert!(error < 0.05, "{storage:?} on a {class:?}: {error}");
        }
    }
}

#[test]
fn an_expert_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("stack.iron");
    let source = Experts { storage: Storage::Dense(DType::F32), halves: &[] };
    compiled::write(&text::parse_module(CHOSEN).unwrap(), &source, Task::FeatureExtraction, true, &stack);
    for bad in [3, -1] {
        for options in [session::Options::default(), compiled::gpu(Mask::default())] {
            let error = chosen(&stack, &[0, bad], options).unwrap_err();
            let is_told = matches!(error, RunError::Index { index, extent: 3, .. } if index == i64::from(bad));
            assert!(is_told, "{error}");
        }
    }
}
