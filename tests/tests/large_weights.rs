//! Weights of 200 MB on a GPU that binds 128 MiB at once: read row by row, dense and packed, and
//! multiplied with.

use std::path::Path;

use castiron_ir::{DType, Storage, StoredTensor, Task, TensorSource, text};
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::MAX_BINDING_BYTES;
use castiron_runtime::session::{self, Model};
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled;

const ROWS: usize = 51_200;
const WIDTH: usize = 1024;

/// `read` is dense, since nothing multiplies with it; `tied` is packed.
const TEXT: &str = "
entry forward(%ids: i32[s]) -> (rows, logits) {
  %0 = param \"read\" : f32[51200,1024]
  %1 = gather %0, %ids axis=0 : f32[s,1024]
  %2 = param \"tied\" : f32[51200,1024]
  %3 = gather %2, %ids axis=0 : f32[s,1024]
  %4 = add %1, %3 : f32[s,1024]
  %5 = dot %3, %2 contract=[(1,1)] : f32[s,51200]
  return %4, %5
}
";

/// Numbers that differ from row to row and along each row.
struct Tables(Vec<u8>);

impl Tables {
    fn new() -> Tables {
        let value = |i: usize| ((i / WIDTH * 31 + i % WIDTH * 7) % 251) as f32 / 251.0 - 0.5;
        Tables((0..ROWS * WIDTH).flat_map(|i| value(i).to_le_bytes()).collect())
    }
}

impl TensorSource for Tables {
    fn layout(&self, _: &str) -> Option<(Storage, &[usize])> {
        Some((Storage::Dense(DType::F32), &[ROWS, WIDTH]))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (storage, shape) = self.layout(name)?;
        Some(StoredTensor { shape: shape.to_vec(), storage, bytes: self.0.as_slice().into() })
    }
}

/// Rows and logits for the first, the last, and the rows around the end of the first part.
fn outputs(artifact: &Path, options: session::Options) -> [Vec<f32>; 2] {
    let boundary = (MAX_BINDING_BYTES as usize / (4 * WIDTH)) as i32;
    let ids = [0, boundary - 1, boundary, ROWS as i32 - 1, 40_000];
    let model = Model::open(artifact, options).unwrap();
    let mut session = model.smallest_session().unwrap();
    let outputs = session.run("forward", &[("ids", TensorRef::i32(&[ids.len()], &ids).unwrap())]).unwrap();
    ["rows", "logits"].map(|name| outputs.get(name).unwrap().as_f32().unwrap().to_vec())
}

#[test]
fn tables_beyond_the_binding_limit_are_bound_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("tables.iron");
    let module = text::parse_module(TEXT).unwrap();
    compiled::write(&module, &Tables::new(), Task::FeatureExtraction, true, &artifact);
    let expected = outputs(&artifact, session::Options::default());
    let actual = outputs(&artifact, compiled::gpu(Mask::default()));
    for (expected, actual) in expected.iter().zip(&actual) {
        assert_eq!(expected.len(), actual.len());
        let error = expected.iter().zip(actual).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-3, "largest error {error}");
    }
}
