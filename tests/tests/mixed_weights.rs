//! Weights that are stored in another format in each layer, as in files of mixed k-quants: each instance is
//! kept as it is, on the CPU and on a GPU.

use std::path::Path;

use castiron_ir::{BlockFormat, DType, Storage, StoredTensor, Task, TensorSource, blocks, text};
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::AdapterClass;
use castiron_runtime::session::{self, Model};
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::weights::Encoding;
use castiron_tests::compiled;
use castiron_tests::parity::difference;

/// Extents of the weights.
const SHAPE: [usize; 2] = [256, 256];

/// Two products of one input, which would be merged if they were stored alike.
const TEXT: &str = "
entry forward(%x: f32[s,256]) -> (y) {
  %0 = repeat count=3 index=\"i\" carried=1 (%x = %x) {
    %0 = param \"layers.{i}.mixed\" : f32[256,256]
    %1 = dot %x, %0 contract=[(1,1)] : f32[s,256]
    %2 = param \"layers.{i}.even\" : f32[256,256]
    %3 = dot %x, %2 contract=[(1,1)] : f32[s,256]
    %4 = mul %1, %3 : f32[s,256]
    yield %4
  } : f32[s,256]
  return %0
}
";

/// The format of a weight, with the places of its f16 fields.
fn format(name: &str) -> (BlockFormat, &'static [usize]) {
    match name {
        "layers.0.mixed" | "layers.2.mixed" => (BlockFormat::Q4K, &[0, 2]),
        "layers.1.mixed" => (BlockFormat::Q6K, &[208]),
        _ => (BlockFormat::Q5K, &[0, 2]),
    }
}

/// Blocks of any integers, or the f32 that they stand for.
struct Layers {
    is_decoded: bool,
}

impl TensorSource for Layers {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        let storage = if self.is_decoded { Storage::Dense(DType::F32) } else { Storage::Blocks(format(name).0) };
        Some((storage, &SHAPE))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (storage, shape) = self.layout(name)?;
        let mut bytes = raw_blocks(name);
        if self.is_decoded {
            let mut values = vec![0.0; SHAPE[0] * SHAPE[1]];
            blocks::decode(format(name).0, &bytes, &mut values);
            bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        }
        Some(StoredTensor { shape: shape.to_vec(), storage, bytes: bytes.into() })
    }
}

fn raw_blocks(name: &str) -> Vec<u8> {
    let (format, halves) = format(name);
    let (elements, bytes) = format.block();
    let mut state = name.bytes().fold(1_u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut raw: Vec<u8> = (0..SHAPE[0] * SHAPE[1] / elements * bytes).map(|_| next()).collect();
    for block in raw.chunks_exact_mut(bytes) {
        for (&at, scale) in halves.iter().zip([1e-4_f32, 1.5e-3]) {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
        }
    }
    raw
}

fn output(artifact: &Path, rows: usize, options: session::Options) -> Vec<f32> {
    let x: Vec<f32> = (0..rows * SHAPE[1]).map(|i| ((i * 37 + i / 7) % 101) as f32 / 50.0 - 1.0).collect();
    let model = Model::open(artifact, options).unwrap();
    let mut session = model.smallest_session().unwrap();
    let outputs = session.run("forward", &[("x", TensorRef::f32(&[rows, SHAPE[1]], &x).unwrap())]).unwrap();
    outputs.get("y").unwrap().as_f32().unwrap().to_vec()
}

#[test]
fn layers_may_be_stored_in_different_ways() {
    let folder = tempfile::tempdir().unwrap();
    let [kept, decoded] = ["kept.iron", "decoded.iron"].map(|name| folder.path().join(name));
    let module = text::parse_module(TEXT).unwrap();
    compiled::write(&module, &Layers { is_decoded: false }, Task::FeatureExtraction, true, &kept);
    compiled::write(&module, &Layers { is_decoded: true }, Task::FeatureExtraction, false, &decoded);
    let model = Model::open(&kept, session::Options::default()).unwrap();
    let encodings = |label: &str| {
        let weight = model.program().weights.iter().find(|weight| weight.label.contains(label)).unwrap();
        weight.encodings.clone()
    };
    assert_eq!(encodings("mixed"), [Encoding::Q4K, Encoding::Q6K, Encoding::Q4K]);
    assert_eq!(encodings("even"), []);
    for rows in [1, 5] {
        let exact = output(&decoded, rows, session::Options::default());
        // Products on the CPU round activations to 8 bits.
        let error = difference(&exact, &output(&kept, rows, session::Options::default()));
        assert!(error < 0.05, "{rows} rows on the CPU: {error}");
        for class in [AdapterClass::Cpu, AdapterClass::Gpu] {
            let mask = Mask { class: Some(class), ..Mask::default() };
            let error = difference(&exact, &output(&kept, rows, compiled::gpu(mask)));
            assert!(error < 1e-4, "{rows} rows on a {class:?}: {error}");
        }
    }
}
